#include "model/noise_schedule.h"

#include <cmath>
#include <numbers>

#include "base/error.h"

namespace ardiff {

namespace {

// Size of the last, deterministic step of A and kMaruyama.
constexpr double kLastStep = 0.04;

double shifted(double t, double s) { return t / (s - (s - 1.0) * t); }

// Grid A: N points up to 0.96; grid B: N + 1 points, the last exactly 1; kMaruyama: N points down to 0.04, then 0; kPassJumps: N + 1 points from 1 to 0.
std::vector<double> time_grid(const SamplerSpec& spec) {
  const int64_t n = spec.timesteps;
  std::vector<double> ts;
  if (spec.sampler == Sampler::kMaruyama) {
    for (int64_t k = 0; k < n; ++k) ts.push_back(n == 1 ? 1.0 : 1.0 - (1.0 - kLastStep) * static_cast<double>(k) / static_cast<double>(n - 1));
    ts.push_back(0.0);
    return ts;
  }
  if (spec.sampler == Sampler::kPassJumps) {
    for (int64_t k = 0; k <= n; ++k) ts.push_back(1.0 - static_cast<double>(k) / static_cast<double>(n));
    return ts;
  }
  if (spec.sampler == Sampler::kA) {
    for (int64_t k = 0; k < n; ++k) ts.push_back(shifted((1.0 - kLastStep) * static_cast<double>(k) / static_cast<double>(n - 1), spec.shift));
  } else {
    for (int64_t k = 0; k < n; ++k) ts.push_back(shifted(static_cast<double>(k) / static_cast<double>(n), spec.shift));
    ts.push_back(1.0);
  }
  return ts;
}

// A step written as coefficients of the noise estimate e = x - t v and the data estimate d = x + (1 - t) v.
SamplerStep from_estimates(double t, double of_e, double of_d, double gamma) {
  return {static_cast<float>(t), static_cast<float>(of_e + of_d), static_cast<float>(of_d * (1.0 - t) - of_e * t), static_cast<float>(gamma)};
}

// x <- x + ((1 + t) v - x) dt + sqrt(2 (1 - t) dt) xi, samplers A and B.
SamplerStep langevin_step(double t, double dt) {
  return {static_cast<float>(t), static_cast<float>(1.0 - dt), static_cast<float>((1.0 + t) * dt), static_cast<float>(std::sqrt(2.0 * (1.0 - t) * dt))};
}

// x <- x + s0 ((2 - t) v + x) dt + s1 sqrt(2 t |dt|) xi, dt < 0; the last step unscaled and without noise (transdiff.md 6.3).
// Guidance on v is guidance on the drift: x is the same in both.
SamplerStep maruyama_step(const SamplerSpec& spec, double t, double next) {
  const double dt = next - t;
  const bool last = next == 0.0;
  const double drift = (last ? 1.0 : spec.drift_scale) * dt;
  return {static_cast<float>(t), static_cast<float>(1.0 + drift), static_cast<float>((2.0 - t) * drift),
          last ? 0.0f : static_cast<float>(spec.noise_scale * std::sqrt(2.0 * t * -dt))};
}

SamplerStep sampler_c_step(const SamplerSpec& spec, const std::vector<double>& ts, size_t k) {
  const double t = ts[k], next = ts[k + 1], dt = next - t;
  const double level = spec.level;
  if (spec.sampler == Sampler::kCSde) {
    const double sigma = 1.0 - t;
    const double sigma_hat = sigma == 1.0 ? ts[ts.size() - 2] : sigma;
    const double q2 = level * level * sigma / (1.0 - sigma_hat);
    return from_estimates(t, (1.0 - next) - q2 * dt / (2.0 * sigma), next, std::sqrt(q2 * dt));
  }
  if (spec.sampler == Sampler::kCCps) {
    const double r = (1.0 - next) * std::sin(level * std::numbers::pi / 2.0);
    return from_estimates(t, std::sqrt(std::max(0.0, (1.0 - next) * (1.0 - next) - r * r)), next, r);
  }
  return from_estimates(t, 1.0 - next, next, 0.0);
}

}  // namespace

SamplerSpec few_step_sampler(int64_t n, Sampler sampler) { return {sampler, n, 1.0, 0.0}; }

Sampler parse_sampler(const std::string& name) {
  if (name == "A") return Sampler::kA;
  if (name == "B") return Sampler::kB;
  if (name == "C-sde") return Sampler::kCSde;
  if (name == "C-cps") return Sampler::kCCps;
  if (name == "C-ode") return Sampler::kCOde;
  if (name == "maruyama") return Sampler::kMaruyama;
  fail(ErrorCode::kInvalidArgument, "sampler '", name, "' is not one of A, B, C-sde, C-cps, C-ode, maruyama");
}

std::vector<SamplerStep> sampler_steps(const SamplerSpec& spec) {
  const int64_t least = spec.sampler == Sampler::kA || spec.sampler == Sampler::kCSde ? 2 : 1;
  check(spec.timesteps >= least && spec.timesteps <= 1000, ErrorCode::kInvalidArgument, "timesteps ", spec.timesteps, " is outside [", least, ", 1000]");
  check(std::isfinite(spec.shift) && spec.shift > 0.0 && spec.shift <= 1000.0, ErrorCode::kInvalidArgument, "timestep shift ", spec.shift,
        " is outside (0, 1000]");
  check(std::isfinite(spec.level) && spec.level >= 0.0 && spec.level <= 1.0, ErrorCode::kInvalidArgument, "sampler level ", spec.level,
        " is outside [0, 1]");
  const auto in_range = [](double scale) { return scale >= 0.0 && scale <= 10.0; };
  check(in_range(spec.drift_scale) && in_range(spec.noise_scale), ErrorCode::kInvalidArgument, "sampler scales ", spec.drift_scale, " and ",
        spec.noise_scale, " are not both in [0, 10]");
  const std::vector<double> ts = time_grid(spec);
  std::vector<SamplerStep> steps;
  const auto n = static_cast<size_t>(spec.timesteps);
  for (size_t k = 0; k < n; ++k) {
    if (spec.sampler == Sampler::kMaruyama) {
      steps.push_back(maruyama_step(spec, ts[k], ts[k + 1]));
    } else if (spec.sampler == Sampler::kFewStep || spec.sampler == Sampler::kPassJumps) {
      steps.push_back({static_cast<float>(ts[k]), 1.0f, static_cast<float>(ts[k + 1] - ts[k]), 0.0f});
    } else if (spec.sampler == Sampler::kA && k + 1 == n) {
      steps.push_back({static_cast<float>(ts[k]), 1.0f, static_cast<float>(kLastStep), 0.0f});
    } else if (spec.sampler == Sampler::kA || spec.sampler == Sampler::kB) {
      steps.push_back(langevin_step(ts[k], ts[k + 1] - ts[k]));
    } else {
      steps.push_back(sampler_c_step(spec, ts, k));
    }
  }
  return steps;
}

int64_t noise_draws(const SamplerSpec& spec) {
  if (spec.sampler == Sampler::kFewStep || spec.sampler == Sampler::kPassJumps) return 1;
  return spec.sampler == Sampler::kA || spec.sampler == Sampler::kMaruyama ? spec.timesteps : spec.timesteps + 1;
}

}  // namespace ardiff
