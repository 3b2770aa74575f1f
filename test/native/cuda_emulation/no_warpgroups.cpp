// Kernels of warpgroup products, clusters and bulk copies are not emulated: its device is none of compute capability 9.0a, so the backend
// never asks for them.
#include "backend/cuda/product_after.cuh"
#include "backend/cuda/product_wide.h"
#include "emulation.h"

namespace ardiff::cuda {

void launch_linear_wide(const LinearTask&, const ProductAfter&, int, int64_t, Workspace&, const Stream&) {
  emulation::stop("a warpgroup product");
}
void multiply_wide(const Product&, cudaStream_t) { emulation::stop("a warpgroup product"); }

}  // namespace ardiff::cuda
