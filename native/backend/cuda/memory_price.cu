// What the backend's memory holds, told by shapes: of prepared weights as linear.cu and conv2d.cu lay them out, and of what ops keep.
#include "backend/cuda/cublas_lt.h"
#include "backend/cuda/cuda_backend.h"
#include "backend/cuda/device.h"
#include "backend/cuda/product.cuh"
#include "backend/cuda/weight_layout.cuh"

namespace ardiff {

using namespace cuda;

namespace {

constexpr int64_t kDenseAttention = int64_t{128} << 20;  // scores and weights of dense_attention.cu, kScoreBytes each
constexpr size_t kUpload = size_t{32} << 20;  // of a weight on its way (linear.cu, kUploadBytes)

}  // namespace

std::optional<DeviceMemory> CudaBackend::device_memory() const {
  size_t free = 0, total = 0;
  check_cuda(cudaMemGetInfo(&free, &total), "free memory");
  return DeviceMemory{static_cast<int64_t>(free), static_cast<int64_t>(total)};
}

size_t CudaBackend::linear_bytes(int64_t in, int64_t out) const {
  const int64_t elements = bf16() ? round_up(out, kPaddedFeatures) * round_up(in, kStepDepth) : out * in;
  return static_cast<size_t>(elements) * dtype_size(info_.dtype) + static_cast<size_t>(out) * sizeof(float);
}

// What is priced is allocated by the same choice (linear.cu, Layout).
size_t CudaBackend::picture_linear_bytes(int64_t in, int64_t out) const {
  if (cublas_lt_ == nullptr) return linear_bytes(in, out);
  return static_cast<size_t>(out * round_up(in, kStepDepth)) * dtype_size(info_.dtype) + static_cast<size_t>(out) * sizeof(float);
}

size_t CudaBackend::conv2d_bytes(int64_t in, int64_t out, int64_t kernel) const {
  const int64_t depth = bf16() ? round_up(in, kProductDepth) : in;
  return static_cast<size_t>(out * kernel * kernel * depth) * dtype_size(info_.dtype) + static_cast<size_t>(out) * sizeof(float);
}

// A workspace that grows takes half as much again (memory.cu). cuBLASLt's products have their sums in it too, as many at once; their
// own workspace does not grow.
size_t CudaBackend::op_memory_bytes(size_t largest_input) const {
  const auto most = static_cast<size_t>(std::max({limits_.product_sums, limits_.attention_sums, kDenseAttention}));
  const size_t together = most + std::max(largest_input, kUpload);
  const size_t of_cublas_lt = cublas_lt_ != nullptr ? CublasLt::kWorkspaceBytes : 0;
  return together + together / 2 + of_cublas_lt + static_cast<size_t>(graphs_.most_memory());
}

}  // namespace ardiff
