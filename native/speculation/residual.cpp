#include "speculation/residual.h"

#include <cmath>
#include <vector>

#include "speculation/normal.h"

namespace ardiff::speculation {

namespace {

using Doubles = std::vector<double>;

// Below this gap the residual is drawn as nearly w φ(w - a), above as a truncated normal.
constexpr double kNarrowGap = 0.5;
// From here down w φ(w - a) is drawn from w exp(a w), above from w exp(-w²/4).
constexpr double kSteepTail = -0.5;

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
//   p φ(s - d) - φ(s)  =  p φ(w - a) (1 - exp(-d w)).
// Wide gaps: w from φ(w - a) cut to w > 0, kept with 1 - exp(-d w). That would reject nearly always where d is small;
// there 1 - exp(-d w) ≤ d w, so w comes from a bound of w φ(w - a) and is kept with (1 - exp(-d w)) / (d w) too.
double residual_coordinate(double log_p, double gap, int64_t token, int64_t step, RandomSource& random) {
  const double a = 0.5 * gap + log_p / gap;
  for (uint32_t proposal = 0;; ++proposal) {
    const auto u = random.residual_uniforms(token, step, proposal);
    double w = 0.0, keep = 0.0;
    if (gap >= kNarrowGap) {
      w = a - normal_quantile(normal_cdf(a) * u[0]);
      keep = -std::expm1(-gap * w);
    } else if (a < kSteepTail) {
      w = std::log(u[0] * u[1]) / a;  // w exp(a w)
      keep = std::exp(-0.5 * w * w) * -std::expm1(-gap * w) / (gap * w);
    } else {
      w = 2.0 * std::sqrt(-std::log(u[0]));  // w exp(-w²/4)
      const double most = a > 0.0 ? a * a : 0.0;
      keep = std::exp(a * w - 0.25 * w * w - most) * -std::expm1(-gap * w) / (gap * w);
    }
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
