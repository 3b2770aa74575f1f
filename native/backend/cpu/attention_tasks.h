// What attention kernels are told of a call: shared by both ways of running them.
#pragma once

#include <algorithm>
#include <cmath>

#include "backend/cpu/kernels.h"
#include "backend/cpu/view_data.h"
#include "backend/ops.h"

namespace ardiff::cpu {

// What the tasks of one call have in common.
inline AttentionTask common_task(const TensorView& q, const KvLayer& kv, const PagedContext& context) {
  const Shape& cache = kv.keys.shape;
  const int32_t* lengths = indices(context.context_lengths);
  AttentionTask task{};
  task.rows = 1;
  task.q_stride = q.row_stride;
  task.heads = static_cast<int>(q.cols() / cache[3] / cache[1]);
  task.head_dim = static_cast<int>(cache[3]);
  task.scale = 1.0f / std::sqrt(static_cast<float>(cache[3]));
  task.kv_bf16 = is_bf16(kv.keys);
  task.block_stride = cache[1] * cache[2] * cache[3];
  task.block_tokens = static_cast<int>(cache[2]);
  task.score_stride = (*std::max_element(lengths, lengths + q.rows()) + 15) / 16 * 16;
  return task;
}

// The query heads of rows from m on that share a kv head.
inline void set_head(AttentionTask& task, const TensorView& q, const KvLayer& kv, const PagedContext& context, int64_t m, int64_t kv_head) {
  const size_t head_at = static_cast<size_t>(kv_head * task.block_tokens * task.head_dim) * dtype_size(kv.keys.dtype);
  task.q = row_floats(q, m) + kv_head * task.heads * task.head_dim;
  task.keys = kv.keys.data + head_at;
  task.values = kv.values.data + head_at;
  task.blocks = indices(context.block_tables) + indices(context.table_rows)[m] * context.block_tables.cols();
  task.lengths = indices(context.context_lengths) + m;
  task.length = task.lengths[0];
}

}  // namespace ardiff::cpu
