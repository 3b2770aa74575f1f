// Paged attention of contexts that are `tiled` (PagedContext), on a bf16 cache.
#pragma once

#include "backend/cuda/attention_heads.cuh"
#include "backend/cuda/attention_partials.cuh"
#include "backend/cuda/memory.h"

namespace ardiff::cuda {

// Whatever the rows: what a row gets does not depend on them.
bool takes_attention_tiled(const KvLayer& kv, const Queries& a);

// Rows of a.q (rows, heads * head_dim) into out, of the same shape: all keys in one kernel, no partial sums.
void launch_attention_tiled(const Queries& a, const KvLayer& kv, int64_t rows, const Output& out, const Stream& stream);

}  // namespace ardiff::cuda
