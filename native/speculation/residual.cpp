#include "speculation/residual.h"

#include <vector>

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

double residual_coordinate(double log_p, double gap, int64_t token, int64_t step, RandomSource& random) {
  return residual_coordinate(log_p, gap, [&](uint32_t proposal) { return random.residual_uniforms(token, step, proposal); });
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
