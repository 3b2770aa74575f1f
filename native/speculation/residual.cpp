#include "speculation/residual.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "speculation/normal.h"

namespace ardiff::speculation {

namespace {

using Doubles = std::vector<double>;

struct Step {
  double a, b, gamma;
};

Step step_of(const DraftChain& chain, int64_t row) {
  const SamplerStep& step = chain.steps[static_cast<size_t>(row) % chain.steps.size()];
  return {static_cast<double>(step.a), static_cast<double>(step.b), static_cast<double>(step.gamma)};
}

// The step's mean by the target (m_p) or the draft (m_q).
Doubles mean_of(const DraftChain& chain, int64_t row, bool target) {
  const Step step = step_of(chain, row);
  const int64_t at = row * chain.width;
  const float* x = (target && chain.target_states ? chain.target_states : chain.states) + at;
  const float* v = (target ? chain.target_velocity : chain.draft_velocity) + at;
  Doubles mean(static_cast<size_t>(chain.width));
  for (size_t i = 0; i < mean.size(); ++i) mean[i] = step.a * static_cast<double>(x[i]) + step.b * static_cast<double>(v[i]);
  return mean;
}

// Δ / d and d; d = 0 or not finite leaves the direction without meaning.
double direction(const DraftChain& chain, int64_t row, Doubles& e) {
  e.resize(static_cast<size_t>(chain.width));
  gap_vector(chain, row, e);
  double squares = 0.0;
  for (double value : e) squares += value * value;
  const double gap = std::sqrt(squares);
  for (double& value : e) value /= gap;
  return gap;
}

// vector + (factor - e·vector) e: its coordinate along e becomes `along(e·vector)`.
template <typename Along>
void set_along(Doubles& vector, const Doubles& e, Along along) {
  double now = 0.0;
  for (size_t i = 0; i < e.size(); ++i) now += e[i] * vector[i];
  const double change = along(now) - now;
  for (size_t i = 0; i < e.size(); ++i) vector[i] += change * e[i];
}

void store_state(const Doubles& mean, double gamma, const Doubles& noise, std::span<float> out) {
  for (size_t i = 0; i < out.size(); ++i) out[i] = static_cast<float>(mean[i] + gamma * noise[i]);
}

}  // namespace

double residual_mass(double log_p, double gap) {
  if (!(gap > 0.0)) return 0.0;
  if (std::isinf(gap)) return std::exp(log_p);
  if (log_p == 0.0) return std::erf(gap / std::sqrt(8.0));  // Φ(d/2) - Φ(-d/2) without the cancellation
  const double mass = std::exp(log_p) * normal_cdf(log_p / gap + 0.5 * gap) - normal_cdf(log_p / gap - 0.5 * gap);
  return mass > 0.0 ? mass : 0.0;
}

// With w = s - s0 ≥ 0, s0 = d/2 - log_p/d where p φ(s - d) = φ(s), and a = d - s0, the density is
//   p φ(s - d) - φ(s)  =  p φ(w - a) (1 - exp(-d w))  ~  exp(a w - w²/2) (1 - exp(-d w)).
// Three proposals, so that no d and p is rejected often: for wide gaps φ(w - a) cut to w > 0; else 1 - exp(-d w) ≤ d w
// counts, and w comes from w exp(a w) far out in the tail (a < -1) and from w exp(-w²/(2 v)) elsewhere.
double residual_coordinate(double log_p, double gap, int64_t token, int64_t step, RandomSource& random) {
  const double a = 0.5 * gap + log_p / gap;
  const bool wide = gap >= std::max(1.0, -a);
  for (uint32_t proposal = 0;; ++proposal) {
    const auto u = random.residual_uniforms(token, step, proposal);
    double w = 0.0, log_keep = 0.0;
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
    if (u[2] < keep) return gap - a + w;
  }
}

void residual_state(const DraftChain& chain, int64_t row, double log_p, RandomSource& random, std::span<float> out) {
  const auto steps = static_cast<int64_t>(chain.steps.size());
  const double gamma = step_of(chain, row).gamma;
  Doubles e, noise(static_cast<size_t>(chain.width));
  const double gap = direction(chain, row, e);
  random.orthogonal_normals(row / steps, row % steps, noise);
  if (!std::isfinite(gap)) return store_state(mean_of(chain, row, true), gamma, noise, out);
  const double s = residual_coordinate(log_p, gap, row / steps, row % steps, random);
  set_along(noise, e, [s](double) { return s; });
  store_state(mean_of(chain, row, false), gamma, noise, out);
}

void reflected_state(const DraftChain& chain, int64_t row, std::span<float> out) {
  const float* z = chain.noise + row * chain.width;
  Doubles e, noise(z, z + chain.width);
  if (std::isfinite(direction(chain, row, e))) set_along(noise, e, [](double along) { return -along; });
  store_state(mean_of(chain, row, true), step_of(chain, row).gamma, noise, out);
}

}  // namespace ardiff::speculation
