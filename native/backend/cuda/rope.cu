// Rotary positions: the angles' cosines and sines, and the split, rotation and storing of a step's queries, keys and values.
#include <algorithm>
#include <cmath>

#include "backend/cuda/cuda_backend.h"
#include "backend/cuda/device.h"
#include "backend/cuda/launch.cuh"
#include "backend/cuda/rotation.cuh"
#include "backend/op_checks.h"

namespace ardiff {

using namespace cuda;

namespace {

constexpr int64_t kMostRows = 65535;  // second dimension of a grid; kernels go on from there

// The frequency as the reference makes it, in double once per thread; sincosf reduces angles of any size exactly.
__global__ void angles_kernel(const int32_t* positions, int64_t rows, float theta, int half, float* cos, int64_t cos_stride, float* sin, int64_t sin_stride) {
  wait_for_predecessor();
  let_successor_begin();
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i >= half) return;
  const auto frequency = static_cast<float>(pow(static_cast<double>(theta), -static_cast<double>(i) / static_cast<double>(half)));
  for (int64_t m = blockIdx.y; m < rows; m += gridDim.y) {
    float s, c;
    sincosf(__fmul_rn(static_cast<float>(positions[m]), frequency), &s, &c);
    cos[m * cos_stride + i] = c;
    sin[m * sin_stride + i] = s;
  }
}

constexpr unsigned kRowThreads = 128;  // of a block: rows are a few hundred groups of four numbers

// Block (part of a row, row): kVec pairs of numbers per thread and turn.
template <typename Kv, int kVec>
__global__ void rope_store_kernel(RopeStore a, const float* qkv, int64_t qkv_stride, int64_t rows) {
  wait_for_predecessor();
  let_successor_begin();
  const int half = a.cache.head_dim / 2, pairs = (a.q_heads + 2 * a.cache.kv_heads) * half;
  for (int64_t m = blockIdx.y; m < rows; m += gridDim.y) {
    const float* from = qkv + m * qkv_stride;
    for (int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x) * kVec; i < pairs; i += static_cast<int>(gridDim.x * blockDim.x) * kVec) {
      const QkvPair pair = qkv_pair(i, a.q_heads, a.cache.kv_heads, a.cache.head_dim);
      float x1[kVec], x2[kVec];
      load_elements<kVec>(from + pair.column, x1);
      load_elements<kVec>(from + pair.column + half, x2);
      rotate_and_store<Kv, kVec>(a, m, pair, x1, x2);
    }
  }
}

// Likewise: kVec keys and as many values.
template <typename Kv, int kVec>
__global__ void store_kv_kernel(const float* key_values, int64_t stride, const int32_t* slots, int64_t rows, CacheShape cache, Kv* keys, Kv* values) {
  wait_for_predecessor();
  let_successor_begin();
  const int width = cache.kv_heads * cache.head_dim;
  for (int64_t m = blockIdx.y; m < rows; m += gridDim.y) {
    const float* from = key_values + m * stride;
    for (int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x) * kVec; i < width; i += static_cast<int>(gridDim.x * blockDim.x) * kVec) {
      const int64_t to = slot_offset(cache, slots[m], i / cache.head_dim) + i % cache.head_dim;
      float key[kVec], value[kVec];
      load_elements<kVec>(from + i, key);
      load_elements<kVec>(from + width + i, value);
      store_elements<kVec>(keys + to, key);
      store_elements<kVec>(values + to, value);
    }
  }
}

dim3 row_blocks(int64_t items, int64_t rows) {
  return {static_cast<unsigned>(ceil_div(items, kRowThreads)), static_cast<unsigned>(std::min<int64_t>(rows, kMostRows))};
}

bool cache_lies_by_four(const KvLayer& kv) {
  const size_t bytes = dtype_size(kv.keys.dtype);
  return lies_by_four(kv.keys.data, kv.keys.shape[3], bytes) && lies_by_four(kv.values.data, kv.keys.shape[3], bytes);
}

}  // namespace

void CudaBackend::rope_angles(const TensorView& positions, float theta, const TensorView& cos, const TensorView& sin) {
  op_checks::rope_angles(positions, cos, sin);
  const int64_t rows = cos.rows(), half = cos.cols();
  if (rows == 0 || half == 0) return;
  const dim3 grid(static_cast<unsigned>(ceil_div(half, kBlock)), static_cast<unsigned>(std::min<int64_t>(rows, kMostRows)));
  launch_dependent(stream_, {grid}, "rope_angles", angles_kernel, indices(positions), rows, theta, static_cast<int>(half), floats(cos), cos.row_stride,
                   floats(sin), sin.row_stride);
}

void CudaBackend::rope_store(const TensorView& qkv, const TensorView& cos, const TensorView& sin, const TensorView& slots, const TensorView& q,
                             const KvLayer& kv) {
  op_checks::rope_store(qkv, cos, sin, slots, q, kv);
  const int64_t rows = qkv.rows();
  if (rows == 0) return;
  const RopeStore a = rope_store_task(cos, sin, slots, q, kv);
  const bool by_four = cos.cols() % 4 == 0 && lies_by_four(qkv) && lies_by_four(cos) && lies_by_four(sin) && lies_by_four(q) &&
                       cache_lies_by_four(kv);
  visit_element(kv.keys.dtype, [&](auto type) {
    using Kv = decltype(type);
    launch_dependent(stream_, {row_blocks(qkv.cols() / 2 / (by_four ? 4 : 1), rows), kRowThreads}, "rope_store",
                     by_four ? rope_store_kernel<Kv, 4> : rope_store_kernel<Kv, 1>, a, floats(qkv), qkv.row_stride, rows);
  });
}

void CudaBackend::store_kv(const TensorView& key_values, const TensorView& slots, const KvLayer& kv) {
  op_checks::store_kv(key_values, slots, kv);
  const int64_t rows = key_values.rows();
  if (rows == 0) return;
  const bool by_four = lies_by_four(key_values) && cache_lies_by_four(kv);
  visit_element(kv.keys.dtype, [&](auto type) {
    using Kv = decltype(type);
    launch_dependent(stream_, {row_blocks(key_values.cols() / 2 / (by_four ? 4 : 1), rows), kRowThreads}, "store_kv",
                     by_four ? store_kv_kernel<Kv, 4> : store_kv_kernel<Kv, 1>, floats(key_values), key_values.row_stride, indices(slots), rows,
                     cache_shape(kv), elements<Kv>(kv.keys), elements<Kv>(kv.values));
  });
}

}  // namespace ardiff
