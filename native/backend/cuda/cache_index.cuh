// Where a position's key or value lies in the paged cache (ops.h, KvLayer). Plain C++ too: cuda_index_test runs it on the host.
#pragma once

#include <cstdint>

#include "backend/host_device.h"
#include "backend/ops.h"

namespace ardiff::cuda {

// (blocks, kv_heads, block_tokens, head_dim), contiguous.
struct CacheShape {
  int kv_heads;
  int block_tokens;
  int head_dim;
};

inline CacheShape cache_shape(const KvLayer& kv) {
  const Shape& s = kv.keys.shape;
  return {static_cast<int>(s[1]), static_cast<int>(s[2]), static_cast<int>(s[3])};
}

// Element 0 of a slot's row of one head.
ARDIFF_HD inline int64_t slot_offset(const CacheShape& cache, int32_t slot, int kv_head) {
  const int32_t block = slot / cache.block_tokens, token = slot % cache.block_tokens;
  return ((static_cast<int64_t>(block) * cache.kv_heads + kv_head) * cache.block_tokens + token) * cache.head_dim;
}

// The same for a position of the sequence whose blocks `table` lists.
ARDIFF_HD inline int64_t position_offset(const CacheShape& cache, const int32_t* table, int32_t position, int kv_head) {
  const int32_t block = table[position / cache.block_tokens], token = position % cache.block_tokens;
  return ((static_cast<int64_t>(block) * cache.kv_heads + kv_head) * cache.block_tokens + token) * cache.head_dim;
}

// One pair (j, j + head_dim / 2) of a head of [q | k | v], and where it goes.
struct QkvPair {
  enum class Part { kQuery, kKey, kValue };
  Part part;
  int head;        // of its part
  int j;           // first of the pair within the head; the second is j + head_dim / 2
  int64_t column;  // of the first within the row of qkv
};

// Item i of a row's (q_heads + 2 kv_heads) head_dim / 2 pairs; neighbours are neighbours in memory.
ARDIFF_HD inline QkvPair qkv_pair(int i, int q_heads, int kv_heads, int head_dim) {
  const int half = head_dim / 2;
  const int head = i / half, j = i % half;
  const int64_t column = static_cast<int64_t>(head) * head_dim + j;
  if (head < q_heads) return {QkvPair::Part::kQuery, head, j, column};
  if (head < q_heads + kv_heads) return {QkvPair::Part::kKey, head - q_heads, j, column};
  return {QkvPair::Part::kValue, head - q_heads - kv_heads, j, column};
}

}  // namespace ardiff::cuda
