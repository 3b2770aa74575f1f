// How far draft and target are apart on a drafted chain (docs/speculation.md, Gaps).
//
// A sampler step is x' = m + γ z with m = a x + b v (noise_schedule.h) and z ~ N(0, I); draft and target share a, b and
// γ, so at one state x their laws are two normals of equal covariance with
//   Δ = (m_p - m_q) / γ = b (v_p - v_q) / γ,   d = |Δ|,   ℓ = log p/q at the drafted x' = Δ·z - d²/2.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "backend/host_device.h"
#include "model/noise_schedule.h"

namespace ardiff::speculation {

// γ drafted tokens of K steps each, one row of D numbers per step, row token * K + step. Nothing is owned.
struct DraftChain {
  std::span<const SamplerStep> steps;      // K; every gamma > 0 (is_gaussian)
  int64_t tokens = 0;
  int64_t width = 0;                       // D
  const float* states = nullptr;           // (tokens K, D) x before the step
  const float* noise = nullptr;            // (tokens K, D) z the draft drew for it
  const float* draft_velocity = nullptr;   // (tokens K, D) v_q the draft's step was made with
  const float* target_velocity = nullptr;  // (tokens K, D) guided v_p at the same state and time
  // V1 only: (tokens K, D) states of the target's own path under the same noise, where target_velocity was taken.
  const float* target_states = nullptr;

  int64_t length() const { return tokens * static_cast<int64_t>(steps.size()); }
};

// One step as the verifiers see it.
struct Letter {
  double gap = 0;        // d
  double log_ratio = 0;  // ℓ
};

// Of Σ Δ² and Σ Δ·z over a step's numbers. What is not finite is not accepted: gap = infinity, log_ratio = -infinity.
ARDIFF_HD inline Letter letter_of(double squares, double along) {
  const double log_ratio = along - 0.5 * squares;
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  return std::isfinite(log_ratio) ? Letter{std::sqrt(squares), log_ratio} : Letter{kInfinity, -kInfinity};
}

// Whether every step draws noise: what verification of the model's sampler needs (samplers B and C-sde; the others end without).
bool is_gaussian(std::span<const SamplerStep> steps);

// Δ of row `row`, width numbers. With target_states the means' whole difference, without it that of the velocities.
void gap_vector(const DraftChain& chain, int64_t row, std::span<double> delta);

// Letters of all rows, token by token. A velocity that is not finite gives gap = infinity and log_ratio = -infinity: the
// draft is not accepted there. Throws kInvalidArgument when a step draws no noise.
std::vector<Letter> letters_of(const DraftChain& chain);

}  // namespace ardiff::speculation
