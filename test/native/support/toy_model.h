// "Trained models" whose right answers are known: isotropic Gaussian mixtures in the plane, for which the best velocity
// v = E[data - noise | x_t] has a closed form. Draft and target are two mixtures a little apart.
#pragma once

#include <array>
#include <functional>
#include <vector>

#include "model/noise_schedule.h"
#include "speculation/verify.h"
#include "support/random_stream.h"

namespace ardiff::test {

using Point = std::array<double, 2>;

struct Mixture {
  std::array<double, 2> weights;
  std::array<Point, 2> means;
  double deviation;

  // E[x_1 | x_t = x].
  Point data_estimate(const Point& x, double t) const;
  Point velocity(const Point& x, double t) const;
  // x_t of a fresh data point and fresh noise.
  Point marginal(double t, RandomStream& random) const;
};

// A fixed pair for tests of single tokens: probability of accepting a whole path about 0.84.
Mixture toy_target();
Mixture toy_draft();
// The pair for a token that follows `context`.
Mixture toy_target(const Point& context);
Mixture toy_draft(const Point& context);

// Step from t to next with noise η b' sqrt(1 - (a b' / (a' b))²): η = 1 the ancestral sampler, 0 the deterministic one.
SamplerStep eta_step(double t, double next, double eta);
// K ancestral steps from pure noise to t = 1 - last, uniform in log SNR from t_1 = 0.12 on.
std::vector<SamplerStep> ancestral_steps(int count, double last);
constexpr double kLast = 0.05;  // of most tests
// Every point of the grid but the first: t after step k.
std::vector<double> ancestral_times(int count, double last);

using Model = std::function<Point(const Point& x, double t)>;
using Noise = std::function<Point(int step)>;  // step -1: the initial one

// One sampled token with everything verification looks at; rows are steps.
struct ToyPath {
  std::vector<float> states, noise, velocities;
  Point end{};
};

// Runs steps [begin, K) from x (begin 0: pass the initial noise). What is stored is float32, as in the engine.
ToyPath run_path(const Model& model, const std::vector<SamplerStep>& steps, Point x, size_t begin, const Noise& noise);
ToyPath fresh_path(const Model& model, const std::vector<SamplerStep>& steps, RandomStream& random);

// Drafted tokens of one round, beside the target's velocities at their states.
struct ToyChain {
  explicit ToyChain(std::vector<SamplerStep> sampler) : steps(std::move(sampler)) {}

  std::vector<SamplerStep> steps;
  std::vector<float> states, noise, draft, target, target_states;
  int64_t tokens = 0;

  // Adds a drafted token and evaluates the target at its states.
  void add(const ToyPath& path, const Model& target_model);
  speculation::DraftChain view() const;
};

Point point(const std::vector<float>& state);
// Whether points have the same law: Kolmogorov-Smirnov for both coordinates, their sum and difference, after Bonferroni.
double two_sample_p(const std::vector<Point>& a, const std::vector<Point>& b);

}  // namespace ardiff::test
