// What a step's state becomes where the draft's was not accepted: a draw from (p P - Q)₊, P and Q the step's target and
// draft laws and p in (0, 1] the probability of having come this far (docs/speculation.md, Residual).
#pragma once

#include <algorithm>
#include <cmath>
#include <span>

#include "speculation/gap.h"
#include "speculation/normal.h"
#include "speculation/random_source.h"

namespace ardiff::speculation {

// ∫ (p P - Q)₊ for unit normals at distance `gap`, log_p = log p ≤ 0: p Φ(log_p/d + d/2) - Φ(log_p/d - d/2).
ARDIFF_HD inline double residual_mass(double log_p, double gap) {
  if (!(gap > 0.0)) return 0.0;
  if (std::isinf(gap)) return std::exp(log_p);
  if (log_p == 0.0) return std::erf(gap / std::sqrt(8.0));  // Φ(d/2) - Φ(-d/2) without the cancellation
  const double mass = std::exp(log_p) * normal_cdf(log_p / gap + 0.5 * gap) - normal_cdf(log_p / gap - 0.5 * gap);
  return mass > 0.0 ? mass : 0.0;
}

// The state's coordinate along Δ in units of γ from the draft's mean: s ~ (p φ(s - d) - φ(s))₊ normalised, gap > 0.
// By rejection; proposal i takes uniforms(i), three independent numbers in (0, 1). At most 5 proposals on average, whatever gap and p.
//
// With w = s - s0 ≥ 0, s0 = d/2 - log_p/d where p φ(s - d) = φ(s), and a = d - s0, the density is
//   p φ(s - d) - φ(s)  =  p φ(w - a) (1 - exp(-d w))  ~  exp(a w - w²/2) (1 - exp(-d w)).
// Three proposals, so that no d and p is rejected often: for wide gaps φ(w - a) cut to w > 0; else 1 - exp(-d w) ≤ d w
// counts, and w comes from w exp(a w) far out in the tail (a < -1) and from w exp(-w²/(2 v)) elsewhere.
template <typename Uniforms>
ARDIFF_HD inline double residual_coordinate(double log_p, double gap, Uniforms&& uniforms) {
  // Never reached by numbers: 0.8 to this power is 0 in double. What is not a number ends here and stays none.
  constexpr uint32_t kMostProposals = 4096;
  const double a = 0.5 * gap + log_p / gap;
  const bool wide = gap >= std::max(1.0, -a);
  double w = 0.0;
  for (uint32_t proposal = 0; proposal < kMostProposals; ++proposal) {
    const auto u = uniforms(proposal);
    double log_keep = 0.0;
    if (wide) {
      w = a - normal_quantile(normal_cdf(a) * u[0]);
    } else if (a < -1.0) {
      w = std::log(u[0] * u[1]) / a;
      log_keep = -0.5 * w * w;
    } else if (a <= 0.0) {
      w = std::sqrt(-2.0 * std::log(u[0]));  // v = 1
      log_keep = a * w;
    } else {
      w = std::sqrt(-4.0 * std::log(u[0]));  // v = 2: exp(a w - w²/4) is at most exp(a²)
      log_keep = a * w - 0.25 * w * w - a * a;
    }
    const double keep = std::exp(log_keep) * -std::expm1(-gap * w) / (wide ? 1.0 : gap * w);
    if (u[2] < keep) break;
  }
  return gap - a + w;
}
// The same with residual_uniforms(token, step, proposal).
double residual_coordinate(double log_p, double gap, int64_t token, int64_t step, RandomSource& random);

// x' = m_q + γ (ξ + s e), e = Δ / d, ξ standard normal orthogonal to e. Writes chain.width numbers.
// An infinite gap (a draft velocity that is not finite) gives m_p + γ ξ, a plain draw of the target.
void residual_state(const DraftChain& chain, int64_t row, double log_p, RandomSource& random, std::span<float> out);

// x' = m_p + γ (z - 2 e (e·z)): the reflection of the drafted step, what V1 and V2 put in its place.
void reflected_state(const DraftChain& chain, int64_t row, std::span<float> out);

}  // namespace ardiff::speculation
