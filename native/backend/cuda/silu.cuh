// SiLU, rounded step by step: the same bits in whichever kernel.
#pragma once

#include <cmath>

#include "backend/cuda/device.h"

namespace ardiff::cuda {

__device__ inline float silu(float value) { return __fdiv_rn(value, __fadd_rn(1.0f, expf(-value))); }
__device__ inline float silu_mul(float gate, float up) { return __fmul_rn(silu(gate), up); }

}  // namespace ardiff::cuda
