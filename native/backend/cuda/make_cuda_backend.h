// The cuda backend from the outside: no CUDA header, so that the registry compiles without the toolkit's include folder.
#pragma once

#include <memory>

#include "backend/backend.h"
#include "backend/cuda/wide_rows.h"

namespace ardiff {

// Bytes of partial sums that one op keeps at once; more rows take turns. And from how many multiply-adds on products of many rows have a
// kernel of their own (wide_rows.h). Results do not depend on either: tests choose less, so that small cases take turns, and that kernel.
struct CudaLimits {
  int64_t product_sums = int64_t{256} << 20;
  int64_t attention_sums = int64_t{64} << 20;
  int64_t wide_products = cuda::kWideProducts;
};

// options.name: "cuda" (device 0) or "cuda:N". Throws kInvalidArgument where there is no driver, no such device, or one that this
// build has no code for.
std::unique_ptr<Backend> make_cuda_backend(const BackendOptions& options, const CudaLimits& limits = {});

// What cuda_devices() answers in a build that has the backend.
CudaDevices find_cuda_devices();

}  // namespace ardiff
