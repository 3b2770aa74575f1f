// Samplers of the flow head on a model whose marginals are known: every step rule must lead along the same laws x_t,
// whatever noise it adds. Wrong signs of the score or coefficients show at once.
#include <gtest/gtest.h>

#include <cmath>

#include "support/statistics.h"
#include "support/toy_model.h"

namespace ardiff::test {
namespace {

// Largest Kolmogorov-Smirnov distance of both coordinates to the marginal at the time the steps end at.
double distance_to_marginal(const std::vector<SamplerStep>& steps, double end, int64_t count) {
  const Mixture model = toy_target();
  RandomStream random(600);
  std::vector<std::vector<double>> drawn(2), expected(2);
  for (int64_t n = 0; n < count; ++n) {
    const Point x = fresh_path([&](const Point& at, double t) { return model.velocity(at, t); }, steps, random).end;
    const Point reference = model.marginal(end, random);
    for (size_t i = 0; i < 2; ++i) drawn[i].push_back(x[i]), expected[i].push_back(reference[i]);
  }
  return std::max(ks_distance(drawn[0], expected[0]), ks_distance(drawn[1], expected[1]));
}

std::vector<SamplerStep> eta_steps(int count, double eta) {
  std::vector<SamplerStep> steps;
  double t = 0.0;
  for (double next : ancestral_times(count, kLast)) {
    steps.push_back(eta_step(t, next, eta));
    t = next;
  }
  return steps;
}

TEST(ToySampler, EveryNoiseLevelHasTheSameMarginals) {
  for (double eta : {0.0, 0.5, 1.0}) {
    EXPECT_LT(distance_to_marginal(eta_steps(16, eta), 1.0 - kLast, full_samples(60000)), 0.045) << "η " << eta;
    EXPECT_LT(distance_to_marginal(eta_steps(64, eta), 1.0 - kLast, full_samples(20000)), 0.018) << "η " << eta;
  }
}

// The model's own samplers, stopped before their last steps (at t = 1 a marginal is the data itself).
TEST(ToySampler, SamplersOfTheModelHaveTheMarginals) {
  for (Sampler sampler : {Sampler::kB, Sampler::kCOde}) {
    auto steps = sampler_steps({sampler, 128});
    const double end = static_cast<double>(steps[122].t);
    steps.resize(122);
    EXPECT_LT(distance_to_marginal(steps, end, full_samples(20000)), 0.03) << "sampler " << static_cast<int>(sampler);
  }
}

TEST(ToySamplerControls, AWrongSignOfTheScoreIsFound) {
  auto steps = sampler_steps({Sampler::kB, 128});
  const double end = static_cast<double>(steps[122].t);
  steps.resize(122);
  for (SamplerStep& step : steps) {  // v - (1 - t) score instead of +: x (1 + dt), v (1 - t) dt
    const float dt = 1.0f - step.a;
    step.a = 1.0f + dt;
    step.b = (1.0f - step.t) * dt;
  }
  EXPECT_GT(distance_to_marginal(steps, end, full_samples(20000)), 0.1);
}

}  // namespace
}  // namespace ardiff::test
