#include "support/toy_model.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "support/statistics.h"

namespace ardiff::test {

namespace {

constexpr size_t kWidth = 2;

Point context_mean(const double (&w)[2][2], const double (&b)[2], const Point& context) {
  return {1.1 * std::tanh(w[0][0] * context[0] + w[0][1] * context[1] + b[0]), 1.1 * std::tanh(w[1][0] * context[0] + w[1][1] * context[1] + b[1])};
}

}  // namespace

Point Mixture::data_estimate(const Point& x, double t) const {
  const double noise = 1.0 - t, variance = t * t * deviation * deviation + noise * noise;
  std::array<double, 2> logs;
  for (size_t m = 0; m < 2; ++m) {
    double squares = 0.0;
    for (size_t i = 0; i < kWidth; ++i) squares += (x[i] - t * means[m][i]) * (x[i] - t * means[m][i]);
    logs[m] = std::log(weights[m]) - 0.5 * squares / variance;
  }
  const double first = 1.0 / (1.0 + std::exp(logs[1] - logs[0]));
  const double pull = t * deviation * deviation / variance;
  Point out;
  for (size_t i = 0; i < kWidth; ++i) {
    const double mean = first * means[0][i] + (1.0 - first) * means[1][i];
    out[i] = mean + pull * (x[i] - t * mean);
  }
  return out;
}

Point Mixture::velocity(const Point& x, double t) const {
  const Point data = data_estimate(x, t);
  return {(data[0] - x[0]) / (1.0 - t), (data[1] - x[1]) / (1.0 - t)};
}

Point Mixture::marginal(double t, RandomStream& random) const {
  const Point& mean = means[random.uniform() < weights[0] ? 0 : 1];
  Point out;
  for (size_t i = 0; i < kWidth; ++i) out[i] = t * (mean[i] + deviation * random.normal()) + (1.0 - t) * random.normal();
  return out;
}

Mixture toy_target() { return {{0.3, 0.7}, {{{-1.0, 0.5}, {0.8, -0.6}}}, 0.35}; }
Mixture toy_draft() { return {{0.36, 0.64}, {{{-0.9, 0.56}, {0.72, -0.52}}}, 0.35}; }

Mixture toy_target(const Point& context) {
  return {{0.5, 0.5},
          {context_mean({{0.9, -0.3}, {0.2, 0.7}}, {0.4, -0.2}, context), context_mean({{-0.5, 0.6}, {0.8, 0.1}}, {-0.5, 0.3}, context)},
          0.4};
}

Mixture toy_draft(const Point& context) {
  return {{0.56, 0.44},
          {context_mean({{1.02, -0.25}, {0.12, 0.8}}, {0.46, -0.14}, context), context_mean({{-0.4, 0.5}, {0.86, 0.19}}, {-0.44, 0.36}, context)},
          0.4};
}

SamplerStep eta_step(double t, double next, double eta) {
  const double b = 1.0 - t, b_next = 1.0 - next, ratio = t * b_next / (next * b);
  const double sigma = eta * b_next * std::sqrt(std::max(0.0, 1.0 - ratio * ratio));
  const double of_x = std::sqrt(std::max(0.0, b_next * b_next - sigma * sigma)) / b;  // m = of_x x + of_data x̂, x̂ = x + b v
  const double of_data = next - t * of_x;
  return {static_cast<float>(t), static_cast<float>(of_x + of_data), static_cast<float>(of_data * b), static_cast<float>(sigma)};
}

std::vector<double> ancestral_times(int count, double last) {
  const double low = std::log(0.12 / 0.88), high = std::log((1.0 - last) / last);
  std::vector<double> times;
  for (int k = 0; k < count; ++k) {
    const double r = std::exp(count == 1 ? high : low + (high - low) * k / (count - 1));
    times.push_back(r / (1.0 + r));
  }
  return times;
}

std::vector<SamplerStep> ancestral_steps(int count, double last) {
  std::vector<SamplerStep> steps;
  double t = 0.0;
  for (double next : ancestral_times(count, last)) steps.push_back(eta_step(std::exchange(t, next), next, 1.0));
  return steps;
}

ToyPath run_path(const Model& model, const std::vector<SamplerStep>& steps, Point x, size_t begin, const Noise& noise) {
  ToyPath path;
  for (size_t k = begin; k < steps.size(); ++k) {
    const SamplerStep& s = steps[k];
    const Point v = model(x, static_cast<double>(s.t)), z = s.gamma > 0.0f ? noise(static_cast<int>(k)) : Point{};
    for (size_t i = 0; i < kWidth; ++i) {
      path.states.push_back(static_cast<float>(x[i]));
      path.velocities.push_back(static_cast<float>(v[i]));
      path.noise.push_back(static_cast<float>(z[i]));
      const float next = s.a * path.states.back() + s.b * path.velocities.back() + s.gamma * path.noise.back();
      x[i] = static_cast<double>(next);
    }
  }
  path.end = x;
  return path;
}

ToyPath fresh_path(const Model& model, const std::vector<SamplerStep>& steps, RandomStream& random) {
  const auto draw = [&random](int) {
    const double first = random.normal();
    return Point{first, random.normal()};
  };
  return run_path(model, steps, draw(-1), 0, draw);
}

void ToyChain::add(const ToyPath& path, const Model& target_model) {
  for (size_t k = 0; k < steps.size(); ++k) {
    const float* x = &path.states[kWidth * k];
    const Point v = target_model({static_cast<double>(x[0]), static_cast<double>(x[1])}, static_cast<double>(steps[k].t));
    target.insert(target.end(), {static_cast<float>(v[0]), static_cast<float>(v[1])});
  }
  states.insert(states.end(), path.states.begin(), path.states.end());
  noise.insert(noise.end(), path.noise.begin(), path.noise.end());
  draft.insert(draft.end(), path.velocities.begin(), path.velocities.end());
  ++tokens;
}

speculation::DraftChain ToyChain::view() const {
  return {steps, tokens, kWidth, states.data(), noise.data(), draft.data(), target.data(), target_states.empty() ? nullptr : target_states.data()};
}

Point point(const std::vector<float>& state) { return {static_cast<double>(state[0]), static_cast<double>(state[1])}; }

double two_sample_p(const std::vector<Point>& a, const std::vector<Point>& b) {
  std::vector<double> p;
  for (const Point& w : {Point{1, 0}, {0, 1}, {1, 1}, {1, -1}}) {
    const auto project = [&w](const std::vector<Point>& points) {
      std::vector<double> out;
      for (const Point& x : points) out.push_back(w[0] * x[0] + w[1] * x[1]);
      return out;
    };
    p.push_back(ks_two_sample_p(project(a), project(b)));
  }
  return bonferroni(p);
}

}  // namespace ardiff::test
