// product.cuh in bf16 for 3x3 convolutions to few channels, as an autoencoder's last one is to red, green and blue: the same sums, and the
// same bits, as product_bf16.cu makes.
#pragma once

#include "backend/cuda/product.cuh"

namespace ardiff::cuda {

constexpr int kNarrowColumns = 8;  // channels of the result; more fill the tiles of other kernels well enough
constexpr int kNarrowDepth = 256;  // channels of a pixel: rows of pixels and weights have room in 99 KiB, which every device has
constexpr int kNarrowStep = 16;    // channels at a time

// Where a row of taps is a row of pixels below the one before; downsampling skips one.
inline bool takes_narrow_product(const Product& p) {
  return p.shape.kernel == 3 && p.shape.stride == 1 && p.columns <= kNarrowColumns && p.depth % kNarrowStep == 0 && p.depth <= kNarrowDepth;
}

// Where takes_narrow_product. Errors of the launch are the next cudaGetLastError's.
void multiply_narrow(const Product& p, cudaStream_t stream);

}  // namespace ardiff::cuda
