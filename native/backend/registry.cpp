#include "backend/backend.h"
#include "backend/reference/reference_backend.h"
#if ARDIFF_WITH_CPU
#include "backend/cpu/cpu_backend.h"
#endif
#if ARDIFF_WITH_CUDA
#include "backend/cuda/make_cuda_backend.h"
#endif

namespace ardiff {

// Weights as products take them, and float32 biases.
size_t Backend::linear_bytes(int64_t in, int64_t out) const {
  return static_cast<size_t>(out * in) * dtype_size(activation_dtype()) + static_cast<size_t>(out) * sizeof(float);
}
size_t Backend::conv2d_bytes(int64_t in, int64_t out, int64_t kernel) const { return linear_bytes(in * kernel * kernel, out); }

std::unique_ptr<Backend> make_backend(const BackendOptions& options) {
  const bool known = options.dtype == "auto" || options.dtype == "float32" || options.dtype == "bfloat16";
  check(known, ErrorCode::kInvalidArgument, "dtype: expected auto, float32 or bfloat16, got ", options.dtype);
  if (options.name == "reference") {
    check(options.dtype != "bfloat16", ErrorCode::kInvalidArgument, "the reference backend computes in float32 only");
    return std::make_unique<ReferenceBackend>();
  }
#if ARDIFF_WITH_CPU
  if (options.name == "cpu") return make_cpu_backend(options);
#endif
#if ARDIFF_WITH_CUDA
  if (options.name.starts_with("cuda")) return make_cuda_backend(options);
#endif
  fail(ErrorCode::kInvalidArgument, "backend ", options.name, " is not part of this build");
}

CudaDevices cuda_devices() {
#if ARDIFF_WITH_CUDA
  return find_cuda_devices();
#else
  return {"", "this build has no cuda backend", {}};
#endif
}

}  // namespace ardiff
