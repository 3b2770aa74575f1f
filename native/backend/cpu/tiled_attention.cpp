// Attention over the paged cache where many rows see the same positions: PagedContext::tiled.
#include <algorithm>
#include <utility>

#include "backend/cpu/attention_tasks.h"
#include "backend/cpu/cpu_backend.h"
#include "backend/cpu/panels.h"
#include "backend/cpu/thread_pool.h"
#include "backend/cpu/view_data.h"

namespace ardiff {

using namespace cpu;

namespace {

// A task with fewer rows spends more on packing keys and values than on its own work.
constexpr int64_t kFewestRows = 4 * kMostTileRows;

// One past the last row of those from m on that stand together and see the same positions.
int64_t group_end(const PagedContext& context, int64_t m) {
  const int32_t *tables = indices(context.table_rows), *lengths = indices(context.context_lengths);
  int64_t end = m + 1;
  while (end < context.table_rows.shape[0] && tables[end] == tables[m] && lengths[end] == lengths[m]) ++end;
  return end;
}

// Bytes of TiledAttentionMemory's parts, each a multiple of 64.
struct MemorySizes {
  int64_t keys, values, queries, scores, weights;

  MemorySizes(int64_t head_dim, int64_t positions, int64_t panel_columns, DType dtype) {
    const auto whole = [](int64_t bytes) { return (bytes + 63) / 64 * 64; };
    const auto size = static_cast<int64_t>(dtype_size(dtype));
    const PanelShape key_panels{positions, head_dim, panel_columns, dtype}, value_panels{head_dim, positions, panel_columns, dtype};
    keys = whole(key_panels.elements() * size);
    values = whole(value_panels.elements() * size);
    queries = whole(kMostTileRows * key_panels.padded_depth() * size);
    scores = whole(kMostTileRows * key_panels.padded_columns() * static_cast<int64_t>(sizeof(float)));
    weights = whole(kMostTileRows * key_panels.padded_columns() * size);
  }

  int64_t all() const { return keys + values + queries + scores + weights; }

  TiledAttentionMemory at(std::byte* begin) const {
    TiledAttentionMemory out{};
    const auto next = [&](int64_t bytes) { return std::exchange(begin, begin + bytes); };
    out.keys = next(keys);
    out.values = next(values);
    out.queries = next(queries);
    out.scores = reinterpret_cast<float*>(next(scores));
    out.weights = next(weights);
    return out;
  }
};

}  // namespace

void CpuBackend::tiled_attention(const TensorView& q, const KvLayer& kv, const PagedContext& context, const TensorView& out) {
  const int64_t kv_heads = kv.keys.shape[1];
  const AttentionTask shared = common_task(q, kv, context);
  const int64_t group_width = static_cast<int64_t>(shared.heads) * shared.head_dim;
  const MemorySizes sizes(shared.head_dim, shared.score_stride, kernels_->panel_columns, info_.dtype);
  auto* memory = packed_.get<std::byte>(sizes.all() * threads());
  const auto kernel = bf16() ? kernels_->tiled_attention_bf16 : kernels_->tiled_attention_f32;

  attention_groups_.clear();
  for (int64_t m = 0; m < q.rows(); m = group_end(context, m)) attention_groups_.push_back(m);
  attention_groups_.push_back(q.rows());
  const int64_t heads = (static_cast<int64_t>(attention_groups_.size()) - 1) * kv_heads;
  // Rows of a group are parted only where threads would be left without any. Who shares changes no bit.
  const int64_t parts = threads() == 1 ? 1 : (2 * threads() + heads - 1) / heads;
  const int64_t items = heads * parts, chunks = std::min(items, ThreadPool::kChunksPerThread * threads());
  pool_.run(chunks, [&](int64_t chunk, int worker) {
    AttentionTask task = shared;
    task.out_bf16 = is_bf16(out);
    task.out_stride = out.row_stride;
    const TiledAttentionMemory own = sizes.at(memory + worker * sizes.all());
    for (int64_t item = items * chunk / chunks; item < items * (chunk + 1) / chunks; ++item) {
      const auto group = static_cast<size_t>(item / parts / kv_heads);
      const int64_t kv_head = item / parts % kv_heads, part = item % parts;
      const int64_t begin = attention_groups_[group], rows = attention_groups_[group + 1] - begin;
      const int64_t parts_here = std::clamp<int64_t>(rows * shared.heads / kFewestRows, 1, parts);
      if (part >= parts_here) continue;
      const int64_t m = begin + rows * part / parts_here;
      task.rows = static_cast<int>(begin + rows * (part + 1) / parts_here - m);
      set_head(task, q, kv, context, m, kv_head);
      task.out = row_bytes(out, m) + static_cast<size_t>(kv_head * group_width) * dtype_size(out.dtype);
      kernel(task, own);
    }
  });
}

}  // namespace ardiff
