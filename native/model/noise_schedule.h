// Time grids and samplers as tables (nextstep.md 7.4, 7.5; transdiff.md 6). Pure functions.
// Convention: x_t = t data + (1 - t) noise, t = 0 noise, t = 1 data; the network predicts v = data - noise. Of kMaruyama
// and kPassJumps it is the other way round, as in their model: x_t = (1 - t) data + t noise, v = noise - data.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace ardiff {

// kFewStep: jumps of the few-step head (docs/speculation.md), whose network output is the average velocity over the step.
// kMaruyama: that of TransDiff; kPassJumps: jumps of its few-step decoder, likewise, in its direction of time.
enum class Sampler { kA, kB, kCSde, kCCps, kCOde, kFewStep, kMaruyama, kPassJumps };

// One affine step x <- a x + b v + gamma noise, with v the guided network output at time t.
struct SamplerStep {
  float t;
  float a;
  float b;
  float gamma;
};

struct SamplerSpec {
  Sampler sampler = Sampler::kB;
  int64_t timesteps = 28;  // network evaluations, N
  double shift = 1.0;      // s of sh(t) = t / (s - (s - 1) t)
  double level = 0.8;      // noise level of the C samplers
  double drift_scale = 1.0;  // scale_0 and
  double noise_scale = 1.0;  // scale_1 of kMaruyama
  auto operator<=>(const SamplerSpec&) const = default;
};

// n jumps on the grid i / n, of kPassJumps 1 - i / n.
SamplerSpec few_step_sampler(int64_t n, Sampler sampler = Sampler::kFewStep);

// Parses "A", "B", "C-sde", "C-cps", "C-ode", "maruyama"; throws kInvalidArgument.
Sampler parse_sampler(const std::string& name);

// N steps. Throws kInvalidArgument when the spec is out of range (timesteps 1..1000, A needs 2; shift > 0).
std::vector<SamplerStep> sampler_steps(const SamplerSpec& spec);

// Noise vectors one token consumes, the initial one included: N for A and kMaruyama, 1 for few steps, N + 1 for the others.
int64_t noise_draws(const SamplerSpec& spec);

}  // namespace ardiff
