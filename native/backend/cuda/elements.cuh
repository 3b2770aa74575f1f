// Several elements of one thread at a time, and reductions over the threads of a warp or block in a fixed order.
#pragma once

#include <cstring>

#include "backend/cuda/device.h"

namespace ardiff::cuda {

// kCount neighbours as float32. Aligned to 16 bytes, or to their size where they are fewer.
template <int kCount>
__device__ inline void load_elements(const float* from, float (&to)[kCount]) {
  if constexpr (kCount % 4 == 0) {
#pragma unroll
    for (int i = 0; i < kCount; i += 4) {
      const float4 four = *reinterpret_cast<const float4*>(from + i);
      to[i] = four.x, to[i + 1] = four.y, to[i + 2] = four.z, to[i + 3] = four.w;
    }
  } else {
#pragma unroll
    for (int i = 0; i < kCount; ++i) to[i] = from[i];
  }
}

template <int kCount>
__device__ inline void load_elements(const __nv_bfloat16* from, float (&to)[kCount]) {
  if constexpr (kCount % 8 == 0) {
#pragma unroll
    for (int i = 0; i < kCount; i += 8) {
      const uint4 eight = *reinterpret_cast<const uint4*>(from + i);
      const unsigned words[4] = {eight.x, eight.y, eight.z, eight.w};
#pragma unroll
      for (int j = 0; j < 4; ++j) {  // a bfloat16 is the upper half of a float32
        to[i + 2 * j] = __uint_as_float(words[j] << 16);
        to[i + 2 * j + 1] = __uint_as_float(words[j] & 0xffff0000u);
      }
    }
  } else if constexpr (kCount == 4) {
    const uint2 four = *reinterpret_cast<const uint2*>(from);
    to[0] = __uint_as_float(four.x << 16), to[1] = __uint_as_float(four.x & 0xffff0000u);
    to[2] = __uint_as_float(four.y << 16), to[3] = __uint_as_float(four.y & 0xffff0000u);
  } else {
#pragma unroll
    for (int i = 0; i < kCount; ++i) to[i] = __bfloat162float(from[i]);
  }
}

template <int kCount>
__device__ inline void store_elements(float* to, const float (&from)[kCount]) {
  if constexpr (kCount == 4) {
    *reinterpret_cast<float4*>(to) = make_float4(from[0], from[1], from[2], from[3]);
  } else {
#pragma unroll
    for (int i = 0; i < kCount; ++i) to[i] = from[i];
  }
}

template <int kCount>
__device__ inline void store_elements(__nv_bfloat16* to, const float (&from)[kCount]) {
  if constexpr (kCount == 4) {
    const __nv_bfloat162 pairs[2] = {__floats2bfloat162_rn(from[0], from[1]), __floats2bfloat162_rn(from[2], from[3])};
    uint2 words;
    memcpy(&words, pairs, sizeof words);
    *reinterpret_cast<uint2*>(to) = words;
  } else {
#pragma unroll
    for (int i = 0; i < kCount; ++i) to[i] = __float2bfloat16_rn(from[i]);
  }
}

// Whether rows can be read or written by four elements of element_bytes.
inline bool lies_by_four(const void* at, int64_t row_stride, size_t element_bytes = sizeof(float)) {
  return reinterpret_cast<uintptr_t>(at) % (4 * element_bytes) == 0 && row_stride % 4 == 0;
}
inline bool lies_by_four(const TensorView& view) {
  return view.cols() % 4 == 0 && lies_by_four(view.data, view.row_stride, dtype_size(view.dtype));
}

// One element of a bf16 (narrow) or f32 array.
__device__ inline void store_element(void* data, bool narrow, int64_t i, float value) {
  if (narrow) {
    static_cast<__nv_bfloat16*>(data)[i] = __float2bfloat16_rn(value);
  } else {
    static_cast<float*>(data)[i] = value;
  }
}

// All lanes get the result; the tree is the same for all.
__device__ inline float warp_sum(float value) {
#pragma unroll
  for (int step = 16; step > 0; step /= 2) value += __shfl_xor_sync(0xffffffffu, value, step);
  return value;
}
__device__ inline float warp_max(float value) {
#pragma unroll
  for (int step = 16; step > 0; step /= 2) value = fmaxf(value, __shfl_xor_sync(0xffffffffu, value, step));
  return value;
}

__device__ inline int warp_least(int value) {
#pragma unroll
  for (int step = 1; step < 32; step *= 2) value = min(value, __shfl_xor_sync(0xffffffffu, value, step));
  return value;
}
__device__ inline int warp_most(int value) { return -warp_least(-value); }

// All threads of a block of kThreads get the result. of_warps: kThreads / 32 floats of shared memory, free again on return.
template <int kThreads, typename Combine>
__device__ inline float block_reduce(float of_warp, float* of_warps, Combine&& combine) {
  if (threadIdx.x % 32 == 0) of_warps[threadIdx.x / 32] = of_warp;
  __syncthreads();
  float result = of_warps[0];
#pragma unroll
  for (int w = 1; w < kThreads / 32; ++w) result = combine(result, of_warps[w]);
  __syncthreads();
  return result;
}
template <int kThreads>
__device__ inline float block_sum(float value, float* of_warps) {
  return block_reduce<kThreads>(warp_sum(value), of_warps, [](float a, float b) { return a + b; });
}
template <int kThreads>
__device__ inline float block_max(float value, float* of_warps) {
  return block_reduce<kThreads>(warp_max(value), of_warps, [](float a, float b) { return fmaxf(a, b); });
}

}  // namespace ardiff::cuda
