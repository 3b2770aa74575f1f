// Attention over the paged cache, and the cache's block copies.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "backend/cpu/cpu_backend.h"
#include "backend/cpu/thread_pool.h"
#include "backend/cpu/view_data.h"
#include "backend/op_checks.h"

namespace ardiff {

using namespace cpu;

void CpuBackend::paged_attention(const TensorView& q, const KvLayer& kv, const PagedContext& context, const TensorView& out) {
  op_checks::paged_attention(q, kv, context, out);
  if (q.rows() == 0) return;
  const int64_t kv_heads = kv.keys.shape[1];
  const int64_t block_tokens = kv.keys.shape[2];
  const int64_t d = kv.keys.shape[3];
  const int64_t group = q.cols() / d / kv_heads;
  const size_t kv_size = dtype_size(kv.keys.dtype);
  const int32_t* lengths = indices(context.context_lengths);
  const int64_t longest = *std::max_element(lengths, lengths + q.rows());
  const int64_t score_stride = (longest + 15) / 16 * 16;
  float* scores = scores_.get<float>(score_stride * group * threads());
  AttentionTask shared{};
  shared.heads = static_cast<int>(group);
  shared.head_dim = static_cast<int>(d);
  shared.scale = 1.0f / std::sqrt(static_cast<float>(d));
  shared.kv_bf16 = is_bf16(kv.keys);
  shared.block_stride = kv_heads * block_tokens * d;
  shared.block_tokens = static_cast<int>(block_tokens);
  shared.score_stride = score_stride;
  shared.out_bf16 = is_bf16(out);

  int64_t positions = 0;
  for (int64_t m = 0; m < q.rows(); ++m) positions += lengths[m];
  const int64_t items = q.rows() * kv_heads;  // one row and one kv head each
  constexpr int64_t kPasses = 2;              // keys and values
  const int64_t worthwhile = kPasses * positions * q.cols() / ThreadPool::kElementsPerChunk;
  const int64_t chunks = std::clamp<int64_t>(worthwhile, 1, std::min(items, ThreadPool::kChunksPerThread * threads()));
  pool_.run(chunks, [&](int64_t chunk, int worker) {
    AttentionTask task = shared;
    task.scores = scores + worker * group * score_stride;
    for (int64_t item = items * chunk / chunks; item < items * (chunk + 1) / chunks; ++item) {
      const int64_t m = item / kv_heads;
      const int64_t head = item % kv_heads;
      const size_t head_at = static_cast<size_t>(head * block_tokens * d) * kv_size;
      task.q = row_floats(q, m) + head * group * d;
      task.keys = kv.keys.data + head_at;
      task.values = kv.values.data + head_at;
      task.blocks = indices(context.block_tables) + indices(context.table_rows)[m] * context.block_tables.cols();
      task.length = lengths[m];
      task.out = row_bytes(out, m) + static_cast<size_t>(head * group * d) * dtype_size(out.dtype);
      kernels_->attention(task);
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
