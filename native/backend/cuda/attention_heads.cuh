// What the kernels over the paged cache share: a block of threads works for one row and some of the query heads of one kv head, and
// kLanesPerKey threads make the dot products of one key with all of them.
#pragma once

#include <cmath>
#include <type_traits>

#include "backend/cuda/cache_index.cuh"
#include "backend/cuda/device.h"
#include "backend/cuda/elements.cuh"

namespace ardiff::cuda {

constexpr int kAttentionThreads = 256;
constexpr int kLanesPerKey = 8;
constexpr int kTileKeys = kAttentionThreads / kLanesPerKey;  // keys that the threads look at together
constexpr int kMaxHeads = 8;                                 // query heads of one block of threads

struct Queries {
  const float* q;
  int64_t q_stride;
  CacheShape cache;
  int heads;         // all query heads
  int group_heads;   // of one kv head
  int head_tiles;    // blocks of kHeads query heads per kv head
  float scale;       // of scores: 1 / sqrt(head_dim)
  const int32_t* tables;
  int64_t table_stride;
  const int32_t* table_rows;
  const int32_t* lengths;
};

// Which row and which query heads a block of threads works for.
struct HeadTile {
  int64_t row;
  int kv_head, first_head, count;
};

template <int kHeads>
__device__ HeadTile head_tile(const Queries& a, int64_t block) {
  const int tile = static_cast<int>(block % a.head_tiles);
  const int kv_head = static_cast<int>(block / a.head_tiles % a.cache.kv_heads);
  const int count = min(kHeads, a.group_heads - tile * kHeads);
  return {block / a.head_tiles / a.cache.kv_heads, kv_head, kv_head * a.group_heads + tile * kHeads, count};
}

// The tile's queries, (kHeads, head_dim); heads beyond the count are zeros.
template <int kHeads>
__device__ void load_queries(const Queries& a, const HeadTile& tile, float* to) {
  const int d = a.cache.head_dim;
  const float* from = a.q + tile.row * a.q_stride + static_cast<int64_t>(tile.first_head) * d;
  for (int i = threadIdx.x; i < kHeads * d; i += kAttentionThreads) to[i] = i < tile.count * d ? from[i] : 0.0f;
}

// What kLanesPerKey threads add to the dot products of one key with the tile's queries, summed over them: all get the sums.
template <typename Kv, int kVec, int kHeads>
__device__ void dot_products(const float* queries, const Kv* key, int head_dim, float (&dots)[kHeads]) {
  const int lane = threadIdx.x % kLanesPerKey;
#pragma unroll
  for (int h = 0; h < kHeads; ++h) dots[h] = 0.0f;
  for (int i = lane * kVec; i < head_dim; i += kLanesPerKey * kVec) {
    float k[kVec], q[kVec];
    load_elements<kVec>(key + i, k);
#pragma unroll
    for (int h = 0; h < kHeads; ++h) {
      load_elements<kVec>(queries + h * head_dim + i, q);
#pragma unroll
      for (int e = 0; e < kVec; ++e) dots[h] = fmaf(q[e], k[e], dots[h]);
    }
  }
#pragma unroll
  for (int h = 0; h < kHeads; ++h) {
#pragma unroll
    for (int step = 1; step < kLanesPerKey; step *= 2) dots[h] += __shfl_xor_sync(0xffffffffu, dots[h], step);
  }
}

// Blocks of attention that may begin before their predecessor's end: with more, a step of the 14B was slower on an H100 when everything
// in it did (docs/cuda.md, Dependent launches).
constexpr unsigned kMostEarlyBlocks = 640;

// Rows that a block looks at together: they share a table. longest: of what they see, in positions.
struct SharingRows {
  int64_t first;
  int rows, longest;
};

// The rows from `row` on that share its table, at most `most`. The same in every warp.
__device__ inline SharingRows sharing_rows(const Queries& a, int64_t row, int most) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int32_t table = a.table_rows[row];
  int end = most, longest = 0;
  for (int i = lane; i < most; i += 32) {
    if (a.table_rows[row + i] != table) end = min(end, i);
  }
  const int rows = warp_least(end);
  for (int i = lane; i < rows; i += 32) longest = max(longest, a.lengths[row + i]);
  return {row, rows, warp_most(longest)};
}

inline Queries queries_of(const TensorView& q, const KvLayer& kv, const PagedContext& context) {
  Queries a{};
  a.q = floats(q);
  a.q_stride = q.row_stride;
  a.cache = cache_shape(kv);
  a.heads = static_cast<int>(q.cols() / a.cache.head_dim);
  a.group_heads = a.heads / a.cache.kv_heads;
  a.scale = 1.0f / std::sqrt(static_cast<float>(a.cache.head_dim));
  a.tables = indices(context.block_tables);
  a.table_stride = context.block_tables.cols();
  a.table_rows = indices(context.table_rows);
  a.lengths = indices(context.context_lengths);
  return a;
}

// Calls visit(element of the cache, kVec, kHeads), the last two as integral constants: numbers that a thread reads together, and the
// fewest heads that a group fits in, else kMaxHeads.
template <typename Visit>
void dispatch(const KvLayer& kv, int group_heads, Visit&& visit) {
  const int64_t head_dim = kv.keys.shape[3];
  visit_element(kv.keys.dtype, [&](auto type) {
    constexpr int kVec = 16 / sizeof(type);
    const auto with_heads = [&](auto vec) {
      const auto with = [&](auto heads) { visit(type, vec, heads); };
      if (group_heads == 1) return with(std::integral_constant<int, 1>{});
      if (group_heads == 2) return with(std::integral_constant<int, 2>{});
      if (group_heads <= 4) return with(std::integral_constant<int, 4>{});
      if (group_heads == 5) return with(std::integral_constant<int, 5>{});
      return with(std::integral_constant<int, kMaxHeads>{});
    };
    if (head_dim % kVec == 0) {
      with_heads(std::integral_constant<int, kVec>{});
    } else {
      with_heads(std::integral_constant<int, 1>{});
    }
  });
}

}  // namespace ardiff::cuda
