// What every .cu file of the backend shares: CUDA errors as Error, launch checks, typed pointers into views, and the conversions
// of one element. Included by nvcc only.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>

#include "tensor/tensor_view.h"

namespace ardiff::cuda {

using bf16 = __nv_bfloat16;

// ---- errors ----

// Throws kOutOfMemory where the device has no memory left, kInternal otherwise, naming what was done. Out of memory leaves the
// context usable; most other errors stay with it, and every later call reports them too.
void check_cuda(cudaError_t status, const char* what);

// After a launch: a refused configuration, or an error of an earlier kernel that has shown up by now.
inline void check_launch(const char* op) { check_cuda(cudaGetLastError(), op); }

// Dynamic shared memory of a kernel beyond what needs no asking: 48 KiB together with its static shared memory.
template <typename Kernel>
void allow_shared_memory(Kernel* kernel, size_t bytes) {
  if (bytes <= size_t{32} << 10) return;
  check_cuda(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes)), "shared memory of a kernel");
}

// ---- views ----

inline float* floats(const TensorView& view) { return reinterpret_cast<float*>(view.data); }
inline const int32_t* indices(const TensorView& view) { return reinterpret_cast<const int32_t*>(view.data); }
template <typename T>
T* elements(const TensorView& view) {
  return reinterpret_cast<T*>(view.data);
}

// Calls visit with a value of the element type: visit(float{}) or visit(bf16{}).
template <typename Visit>
void visit_element(DType dtype, Visit&& visit) {
  if (dtype == DType::kBF16) {
    visit(bf16{});
  } else {
    visit(float{});
  }
}

// ---- elements ----

__device__ inline float to_float(float value) { return value; }
__device__ inline float to_float(bf16 value) { return __bfloat162float(value); }
__device__ inline float to_float(__half value) { return __half2float(value); }

// Round to nearest, ties to even, as f32_to_bf16 does.
template <typename T>
__device__ T from_float(float value);
template <>
__device__ inline float from_float<float>(float value) {
  return value;
}
template <>
__device__ inline bf16 from_float<bf16>(float value) {
  return __float2bfloat16_rn(value);
}

// ---- launches ----

constexpr int kBlock = 256;  // threads of kernels that have no reason for another number

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
inline int64_t round_up(int64_t a, int64_t b) { return ceil_div(a, b) * b; }

// Blocks of kBlock threads for a loop `for (i = first_item(); i < items; i += item_step())`.
inline unsigned blocks_for(int64_t items) { return static_cast<unsigned>(std::clamp<int64_t>(ceil_div(items, kBlock), 1, 4096)); }
__device__ inline int64_t first_item() { return static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; }
__device__ inline int64_t item_step() { return static_cast<int64_t>(gridDim.x) * blockDim.x; }

}  // namespace ardiff::cuda
