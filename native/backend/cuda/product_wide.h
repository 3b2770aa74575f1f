// product.cuh in bf16 by the warpgroup products of compute capability 9.0a: the same sums, and the same bits, as product_bf16.cu makes.
#pragma once

#include "backend/cuda/product.cuh"

namespace ardiff::cuda {

constexpr int kWideDepth = 64;  // numbers of a tap at a time

constexpr int kWideSide = 1 << 15;  // pixels: places in a picture are kept in 16 bits

// Whatever the number of rows.
inline bool takes_wide_product(const Product& p) {
  const ConvShape& s = p.shape;
  const bool matrix = s.kernel == 1 && s.height == 1;
  return p.tap_depth % kWideDepth == 0 && p.columns > 64 && s.height << s.doubling < kWideSide && (matrix || s.width << s.doubling < kWideSide);
}

// Where takes_wide_product, on a device that has the instructions. Errors of the launch are the next cudaGetLastError's.
void multiply_wide(const Product& p, cudaStream_t stream);

}  // namespace ardiff::cuda
