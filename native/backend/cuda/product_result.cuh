// What becomes of a sum of product.cuh.
#pragma once

#include "backend/cuda/product.cuh"

namespace ardiff::cuda {

__device__ inline void store(const Product& p, int64_t m, int n, float value) {
  if (p.bias != nullptr) value += p.bias[n];
  const int64_t at = m * p.y_stride + n;
  if (p.y_bf16) {
    static_cast<__nv_bfloat16*>(p.y)[at] = __float2bfloat16_rn(value);
  } else {
    float* y = static_cast<float*>(p.y);
    y[at] = p.adds ? y[at] + value : value;
  }
}

}  // namespace ardiff::cuda
