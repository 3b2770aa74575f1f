// Numbers that the released models have in their code, not in their configuration files.
#pragma once

#include <cstdint>

namespace ardiff {

constexpr float kNormEps = 1e-6f;       // of layer and group norms; the backbone's RMS norms have theirs in config.json
constexpr int64_t kTimeFeatures = 256;  // width of the sinusoidal timestep features of every head and decoder

}  // namespace ardiff
