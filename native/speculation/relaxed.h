// Acceptance by tolerance, for samplers without noise and for speed (docs/speculation.md, Relaxed). The first draft that
// is too far off is replaced by the target's own sample from the same noise, so a tolerance of 0 changes nothing.
#pragma once

#include <span>

#include "speculation/gap.h"

namespace ardiff::speculation {

// R-gap of one token: D = sqrt(Σ d²) over the letters of its steps.
double path_gap(std::span<const Letter> letters);

// |f_p - f_q| / sqrt(D) of Σ (v_p - v_q)² over D numbers, at time t.
ARDIFF_HD inline double jump_distance(double t, double squares, int64_t width) { return (1.0 - t) * std::sqrt(squares / static_cast<double>(width)); }

// R-jump of one step at time t: |f_p - f_q| / sqrt(D) with f = x + (1 - t) v at one x. Models whose time runs the other way
// have f = x - t v: what they pass is 1 - t.
double jump_gap(double t, std::span<const float> target_velocity, std::span<const float> draft_velocity);

// Of a token or a pass: the largest over its steps, at times t, rows of `width` numbers; NaN if one of them is.
double largest_jump_gap(std::span<const double> t, int64_t width, const float* target_velocity, const float* draft_velocity);

// R-feat: |ĉ - c| / |c|, mean over `rows` guidance rows of contiguous conditions.
double feature_gap(std::span<const float> target, std::span<const float> draft, int64_t rows);

// R-tok: |x_p - x̂| / sqrt(D), x_p the target's sample from the draft's noise.
double token_gap(std::span<const float> target, std::span<const float> draft);

// How many leading drafts have a statistic of at most `tolerance`. What is not a number is not accepted.
int64_t accepted_prefix(std::span<const double> statistics, double tolerance);

// Lenient V3: accepts a path of log ratio L with min(1, e^L / lenience), 0 < lenience ≤ 1. The emitted token is off the
// target's law by at most E[bias] in total variation; 1 is exact.
struct LenientTest {
  double acceptance = 0;
  double bias = 0;  // acceptance beyond the exact test's, ≥ 0: summed over a picture it is what was spent
};
LenientTest lenient_test(double log_ratio, double lenience);

}  // namespace ardiff::speculation
