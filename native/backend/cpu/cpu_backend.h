// The cpu backend: SIMD kernels chosen at run time, oneDNN for convolutions and AMX matrix products, OpenMP.
#pragma once

#include <memory>

#include "backend/backend.h"

namespace ardiff {

std::unique_ptr<Backend> make_cpu_backend(const BackendOptions& options);

}  // namespace ardiff
