// The cuda backend from the outside: no CUDA header, so that the registry compiles without the toolkit's include folder.
#pragma once

#include <memory>

#include "backend/backend.h"

namespace ardiff {

// options.name: "cuda" (device 0) or "cuda:N". Throws kInvalidArgument where there is no driver, no such device, or one that this
// build has no code for.
std::unique_ptr<Backend> make_cuda_backend(const BackendOptions& options);

// What cuda_devices() answers in a build that has the backend.
CudaDevices find_cuda_devices();

}  // namespace ardiff
