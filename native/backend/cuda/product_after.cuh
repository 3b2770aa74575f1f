// What a product's kernel may do in place of its epilogue: the op that follows, which needs results in pairs.
#pragma once

#include "backend/cuda/elements.cuh"
#include "backend/cuda/few_rows.h"
#include "backend/cuda/linear.cuh"
#include "backend/cuda/rotation.cuh"
#include "backend/cuda/wide_rows.h"

namespace ardiff::cuda {

struct ProductAfter {
  enum class Kind { kFinish, kSiluMul, kRopeStore };  // kFinish: the product's epilogue
  Kind kind;
  TilePairs pairs;  // of the other two
  RopeStore rope;   // its cache in bf16
  __host__ __device__ bool in_pairs() const { return kind != Kind::kFinish; }
};

// Features n and n + pairs.tiles tiles of row m: what the kernel after the product would do with them in float32.
__device__ inline void finish_pair(const LinearTask& t, const ProductAfter& after, int64_t m, int n, float first_sum, float second_sum) {
  const int distance = after.pairs.tiles * kTileFeatures;
  const float first = __fadd_rn(first_sum, t.bias[n]), second = __fadd_rn(second_sum, t.bias[n + distance]);
  if (after.kind == ProductAfter::Kind::kSiluMul) {
    store_element(t.y, t.y_bf16, m * t.y_stride + n, silu_mul(first, second));
    return;
  }
  const CacheShape& cache = after.rope.cache;
  const int pair = n / cache.head_dim * (cache.head_dim / 2) + n % cache.head_dim;
  rotate_and_store<bf16>(after.rope, m, qkv_pair(pair, after.rope.q_heads, cache.kv_heads, cache.head_dim), first, second);
}

// More than kFewRows rows on compute capability 9.0a (linear_wide.cu), x and weights as for launch_linear_many. At most row_bytes of rows
// at once (and those of a tile at least) in `workspace`; in pairs, all of them.
void launch_linear_wide(const LinearTask& t, const ProductAfter& after, const WideDevice& device, int64_t row_bytes,
                        class Workspace& workspace, const class Stream& stream);

}  // namespace ardiff::cuda
