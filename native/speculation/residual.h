// What a step's state becomes where the draft's was not accepted: a draw from (p P - Q)₊, P and Q the step's target and
// draft laws and p in (0, 1] the probability of having come this far (docs/speculation.md, Residual).
#pragma once

#include <span>

#include "speculation/gap.h"
#include "speculation/random_source.h"

namespace ardiff::speculation {

// ∫ (p P - Q)₊ for unit normals at distance `gap`, log_p = log p ≤ 0: p Φ(log_p/d + d/2) - Φ(log_p/d - d/2).
double residual_mass(double log_p, double gap);

// The state's coordinate along Δ in units of γ from the draft's mean: s ~ (p φ(s - d) - φ(s))₊ normalised, gap > 0.
// By rejection; proposal i takes residual_uniforms(token, step, i). At most 5 proposals on average, whatever gap and p.
double residual_coordinate(double log_p, double gap, int64_t token, int64_t step, RandomSource& random);

// x' = m_q + γ (ξ + s e), e = Δ / d, ξ standard normal orthogonal to e. Writes chain.width numbers.
// An infinite gap (a draft velocity that is not finite) gives m_p + γ ξ, a plain draw of the target.
void residual_state(const DraftChain& chain, int64_t row, double log_p, RandomSource& random, std::span<float> out);

// x' = m_p + γ (z - 2 e (e·z)): the reflection of the drafted step, what V1 and V2 put in its place.
void reflected_state(const DraftChain& chain, int64_t row, std::span<float> out);

}  // namespace ardiff::speculation
