// One pair of numbers of [q | k | v] on its way: rotated, and to the queries or into the cache.
#pragma once

#include "backend/cuda/cache_index.cuh"
#include "backend/cuda/device.h"

namespace ardiff::cuda {

struct RopeStore {
  const float* cos;
  int64_t cos_stride;
  const float* sin;
  int64_t sin_stride;
  const int32_t* slots;
  float* q;
  int64_t q_stride;
  int q_heads;
  CacheShape cache;
  void* keys;
  void* values;
};

inline RopeStore rope_store_task(const TensorView& cos, const TensorView& sin, const TensorView& slots, const TensorView& q, const KvLayer& kv) {
  RopeStore a{};
  a.cos = floats(cos);
  a.cos_stride = cos.row_stride;
  a.sin = floats(sin);
  a.sin_stride = sin.row_stride;
  a.slots = indices(slots);
  a.q = floats(q);
  a.q_stride = q.row_stride;
  a.cache = cache_shape(kv);
  a.q_heads = static_cast<int>(q.cols() / a.cache.head_dim);
  a.keys = kv.keys.data;
  a.values = kv.values.data;
  return a;
}

// Rounded one by one, the same wherever the pair comes from.
template <typename Kv>
__device__ inline void rotate_and_store(const RopeStore& a, int64_t m, const QkvPair& pair, float x1, float x2) {
  const int half = a.cache.head_dim / 2;
  if (pair.part == QkvPair::Part::kValue) {
    Kv* to = static_cast<Kv*>(a.values) + slot_offset(a.cache, a.slots[m], pair.head) + pair.j;
    to[0] = from_float<Kv>(x1);
    to[half] = from_float<Kv>(x2);
    return;
  }
  const float c = a.cos[m * a.cos_stride + pair.j], s = a.sin[m * a.sin_stride + pair.j];
  const float y1 = __fmaf_rn(x1, c, -__fmul_rn(x2, s)), y2 = __fmaf_rn(x2, c, __fmul_rn(x1, s));
  if (pair.part == QkvPair::Part::kQuery) {
    float* to = a.q + m * a.q_stride + pair.column;
    to[0] = y1;
    to[half] = y2;
  } else {
    Kv* to = static_cast<Kv*>(a.keys) + slot_offset(a.cache, a.slots[m], pair.head) + pair.j;
    to[0] = from_float<Kv>(y1);
    to[half] = from_float<Kv>(y2);
  }
}

}  // namespace ardiff::cuda
