// Pairs of numbers of [q | k | v] on their way: rotated, and to the queries or into the cache.
#pragma once

#include "backend/cuda/cache_index.cuh"
#include "backend/cuda/elements.cuh"

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

// kVec neighbouring pairs of a head, `pair` the first. Rounded one by one, the same wherever they come from and however many they are.
// Four must lie at whole 16 bytes of float32, 8 of bf16.
template <typename Kv, int kVec>
__device__ inline void rotate_and_store(const RopeStore& a, int64_t m, const QkvPair& pair, const float (&x1)[kVec], const float (&x2)[kVec]) {
  const int half = a.cache.head_dim / 2;
  if (pair.part == QkvPair::Part::kValue) {
    Kv* to = static_cast<Kv*>(a.values) + slot_offset(a.cache, a.slots[m], pair.head) + pair.j;
    store_elements<kVec>(to, x1);
    store_elements<kVec>(to + half, x2);
    return;
  }
  float c[kVec], s[kVec], y1[kVec], y2[kVec];
  load_elements<kVec>(a.cos + m * a.cos_stride + pair.j, c);
  load_elements<kVec>(a.sin + m * a.sin_stride + pair.j, s);
#pragma unroll
  for (int e = 0; e < kVec; ++e) {
    y1[e] = __fmaf_rn(x1[e], c[e], -__fmul_rn(x2[e], s[e]));
    y2[e] = __fmaf_rn(x2[e], c[e], __fmul_rn(x1[e], s[e]));
  }
  if (pair.part == QkvPair::Part::kQuery) {
    float* to = a.q + m * a.q_stride + pair.column;
    store_elements<kVec>(to, y1);
    store_elements<kVec>(to + half, y2);
  } else {
    Kv* to = static_cast<Kv*>(a.keys) + slot_offset(a.cache, a.slots[m], pair.head) + pair.j;
    store_elements<kVec>(to, y1);
    store_elements<kVec>(to + half, y2);
  }
}

template <typename Kv>
__device__ inline void rotate_and_store(const RopeStore& a, int64_t m, const QkvPair& pair, float x1, float x2) {
  const float of_x1[1] = {x1}, of_x2[1] = {x2};
  rotate_and_store<Kv, 1>(a, m, pair, of_x1, of_x2);
}

}  // namespace ardiff::cuda
