// The cuda backend from the outside: no CUDA header, so that the registry compiles without the toolkit's include folder.
#pragma once

#include <memory>

#include "backend/backend.h"

namespace ardiff {

// Bytes of partial sums that one op keeps at once; more rows take turns. Results do not depend on it: tests choose less, so that
// small cases take turns.
struct CudaLimits {
  int64_t product_sums = int64_t{256} << 20;
  int64_t attention_sums = int64_t{64} << 20;
};

// options.name: "cuda" (device 0) or "cuda:N". Throws kInvalidArgument where there is no driver, no such device, or one that this
// build has no code for.
std::unique_ptr<Backend> make_cuda_backend(const BackendOptions& options, const CudaLimits& limits = {});

// What cuda_devices() answers in a build that has the backend.
CudaDevices find_cuda_devices();

}  // namespace ardiff
