// Attention over the paged cache, and the cache's block copies.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "backend/cpu/attention_tasks.h"
#include "backend/cpu/cpu_backend.h"
#include "backend/cpu/thread_pool.h"
#include "backend/cpu/view_data.h"
#include "backend/op_checks.h"

namespace ardiff {

using namespace cpu;

namespace {

// Rows that stand together and see the same sequence share what is read of the cache, up to this many.
constexpr int64_t kRowsTogether = 8;

// One past the last row of the group that begins at m.
int64_t group_end(const PagedContext& context, int64_t m, int64_t most_rows) {
  const int32_t* tables = indices(context.table_rows);
  const int64_t most = std::min(m + most_rows, context.table_rows.shape[0]);
  int64_t end = m + 1;
  while (end < most && tables[end] == tables[m]) ++end;
  return end;
}

}  // namespace

void CpuBackend::paged_attention(const TensorView& q, const KvLayer& kv, const PagedContext& context, const TensorView& out) {
  op_checks::paged_attention(q, kv, context, out);
  if (q.rows() == 0) return;
  if (context.tiled) return tiled_attention(q, kv, context, out);
  const int64_t kv_heads = kv.keys.shape[1];
  AttentionTask shared = common_task(q, kv, context);
  shared.out_bf16 = is_bf16(out);
  const int64_t group_width = static_cast<int64_t>(shared.heads) * shared.head_dim;
  float* scores = scores_.get<float>(kRowsTogether * shared.score_stride * shared.heads * threads());

  int64_t positions = 0;
  for (int64_t m = 0; m < q.rows(); ++m) positions += indices(context.context_lengths)[m];
  // Not so many that threads would be left without any. Who shares changes no bit.
  const int64_t most_rows = std::clamp<int64_t>(q.rows() * kv_heads / threads(), 1, kRowsTogether);
  attention_groups_.clear();
  for (int64_t m = 0; m < q.rows(); m = group_end(context, m, most_rows)) attention_groups_.push_back(m);
  attention_groups_.push_back(q.rows());
  const int64_t items = (static_cast<int64_t>(attention_groups_.size()) - 1) * kv_heads;  // one group and one kv head each
  constexpr int64_t kPasses = 2;                                                          // keys and values
  const int64_t worthwhile = kPasses * positions * q.cols() / ThreadPool::kElementsPerChunk;
  const int64_t chunks = std::clamp<int64_t>(worthwhile, 1, std::min(items, ThreadPool::kChunksPerThread * threads()));
  pool_.run(chunks, [&](int64_t chunk, int worker) {
    AttentionTask task = shared;
    task.scores = scores + worker * kRowsTogether * task.heads * task.score_stride;
    task.out_stride = out.row_stride;
    for (int64_t item = items * chunk / chunks; item < items * (chunk + 1) / chunks; ++item) {
      const int64_t group = item / kv_heads, kv_head = item % kv_heads;
      const int64_t m = attention_groups_[static_cast<size_t>(group)];
      task.rows = static_cast<int>(attention_groups_[static_cast<size_t>(group + 1)] - m);
      set_head(task, q, kv, context, m, kv_head);
      task.out = row_bytes(out, m) + static_cast<size_t>(kv_head * group_width) * dtype_size(out.dtype);
      kernels_->attention(task);
    }
  });
}

// A row's heads are summed in order, so a row belongs to one thread.
void CpuBackend::attention_entropy(const TensorView& q, const KvLayer& kv, const PagedContext& context, const TensorView& first_keys,
                                   const TensorView& out) {
  op_checks::attention_entropy(q, kv, context, first_keys, out);
  if (q.rows() == 0) return;
  const int64_t kv_heads = kv.keys.shape[1];
  const AttentionTask shared = common_task(q, kv, context);
  float* scores = scores_.get<float>(shared.score_stride * shared.heads * threads());
  int64_t positions = 0;
  for (int64_t m = 0; m < q.rows(); ++m) positions += indices(context.context_lengths)[m] - indices(first_keys)[m];
  const int64_t worthwhile = positions * q.cols() / ThreadPool::kElementsPerChunk;
  const int64_t chunks = std::clamp<int64_t>(worthwhile, 1, std::min(q.rows(), ThreadPool::kChunksPerThread * threads()));
  pool_.run(chunks, [&](int64_t chunk, int worker) {
    AttentionTask task = shared;
    task.scores = scores + worker * task.heads * task.score_stride;
    for (int64_t m = q.rows() * chunk / chunks; m < q.rows() * (chunk + 1) / chunks; ++m) {
      task.first = indices(first_keys)[m];
      const int64_t count = indices(context.context_lengths)[m] - task.first;
      float sum = 0.0f;
      for (int64_t kv_head = 0; count >= 2 && kv_head < kv_heads; ++kv_head) {
        set_head(task, q, kv, context, m, kv_head);
        sum += kernels_->attention_entropy(task);
      }
      floats(out)[m] = count < 2 ? 0.0f : sum / (static_cast<float>(kv_heads * task.heads) * std::log(static_cast<float>(count)));
    }
  });
}

void CpuBackend::copy_blocks(const KvLayer& kv, std::span<const int32_t> pairs) {
  op_checks::copy_blocks(kv, pairs);
  const Shape& s = kv.keys.shape;
  const size_t bytes = static_cast<size_t>(s[1] * s[2] * s[3]) * dtype_size(kv.keys.dtype);
  for (size_t i = 0; i < pairs.size(); i += 2) {
    if (pairs[i] == pairs[i + 1]) continue;
    const size_t from = static_cast<size_t>(pairs[i]) * bytes;
    const size_t to = static_cast<size_t>(pairs[i + 1]) * bytes;
    std::memcpy(kv.keys.data + to, kv.keys.data + from, bytes);
    std::memcpy(kv.values.data + to, kv.values.data + from, bytes);
  }
}

}  // namespace ardiff
