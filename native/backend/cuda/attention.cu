// Attention over the paged cache: blocks of threads fold up to kGroupKeys positions of a row into a partial softmax; another kernel folds a
// row's groups in order. Groups begin at position 0 and at multiples of kGroupKeys, so what a row gets depends on its own query, keys
// and length: decode, verification and prefill rows are treated alike. Here for any cache, one row and the query heads that share a kv
// head at a time; attention_mma.cu has most caches in bf16.
#include <algorithm>

#include "backend/cuda/async_copy.cuh"
#include "backend/cuda/attention_heads.cuh"
#include "backend/cuda/attention_mma.cuh"
#include "backend/cuda/attention_tiled.cuh"
#include "backend/cuda/cuda_backend.h"
#include "backend/cuda/launch.cuh"
#include "backend/cuda/workspace_plan.h"
#include "backend/op_checks.h"

namespace ardiff {

using namespace cuda;

namespace {

// Blocks of folding that may begin before attention's end, as kMostEarlyBlocks.
constexpr unsigned kMostEarlyFolds = 400;
constexpr int kMaxHeadDim = 256;
constexpr int kMaxParts = 8;     // threads that share a column of the sums
// In the softmax a head has a warp and a key a lane; a column of the sums has a thread, and so has an offset.
static_assert(kTileKeys == 32 && kAttentionThreads / 32 >= kMaxHeads && kAttentionThreads >= kMaxHeadDim && kAttentionThreads >= kGroupKeys);

// Rows of one tile from the cache to shared memory, (kTileKeys, head_dim); offsets below 0 are zeros.
template <typename Kv, int kVec>
__device__ void load_tile(const Kv* cache, const int64_t* offsets, int head_dim, Kv* to) {
  const int pieces = head_dim / kVec;
  for (int i = threadIdx.x; i < kTileKeys * pieces; i += kAttentionThreads) {
    const int64_t offset = offsets[i / pieces];
    const int column = i % pieces * kVec;
    Kv* at = to + i / pieces * head_dim + column;
    if constexpr (kVec * sizeof(Kv) == 16) {
      copy_async_16(at, cache + (offset < 0 ? 0 : offset + column), offset >= 0);
    } else {
      *at = offset < 0 ? Kv{} : cache[offset + column];
    }
  }
}

template <typename Kv, int kVec, int kHeads>
__global__ void __launch_bounds__(kAttentionThreads) attend_group(Queries a, const Kv* keys, const Kv* values, Partials partials, Output out) {
  constexpr int kStride = kHeads == 1 ? 1 : (kHeads == 2 ? 2 : (kHeads + 3) / 4 * 4);
  extern __shared__ __align__(16) unsigned char shared[];
  __shared__ int64_t offsets[kGroupKeys];
  __shared__ float scores[kHeads][kTileKeys + 1];
  __shared__ __align__(16) float weights[kTileKeys][kStride];
  __shared__ float rescale[kHeads], largest_of[kHeads], sum_of[kHeads];

  wait_for_predecessor();
  let_successor_begin();
  const HeadTile tile = head_tile<kHeads>(a, blockIdx.x);
  const int length = a.lengths[tile.row];
  const int begin = static_cast<int>(blockIdx.y) * kGroupKeys;
  if (begin >= length) return;  // the whole block: the row has fewer groups
  const int count = min(length - begin, kGroupKeys);
  const int tiles = (count + kTileKeys - 1) / kTileKeys;
  const int d = a.cache.head_dim;
  Kv* key_tile = reinterpret_cast<Kv*>(shared);
  Kv* value_tile = key_tile + kTileKeys * d;
  float* queries = reinterpret_cast<float*>(value_tile + kTileKeys * d);  // (kHeads, d)
  float* parts_sums = queries + kHeads * d;                               // (parts, kHeads, d)

  const int32_t* table = a.tables + a.table_rows[tile.row] * a.table_stride;
  if (threadIdx.x < kGroupKeys) {
    const int p = static_cast<int>(threadIdx.x);
    offsets[p] = p < count ? position_offset(a.cache, table, begin + p, tile.kv_head) : -1;
  }
  load_queries<kHeads>(a, tile, queries);
  __syncthreads();
  load_tile<Kv, kVec>(keys, offsets, d, key_tile);
  commit_copies();
  load_tile<Kv, kVec>(values, offsets, d, value_tile);
  commit_copies();

  // For scores: key of the tile. For the softmax: warp = head, lane = key. For sums: column, and which of every `parts` keys.
  const int my_key = static_cast<int>(threadIdx.x) / kLanesPerKey;
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const int parts = min(kAttentionThreads / d, kMaxParts);
  const int part = static_cast<int>(threadIdx.x) / d, column = static_cast<int>(threadIdx.x) % d;
  float sums[kHeads];
#pragma unroll
  for (int h = 0; h < kHeads; ++h) sums[h] = 0.0f;
  float largest = -INFINITY, sum = 0.0f;  // of the warp's head, the same in all lanes

  for (int t = 0; t < tiles; ++t) {
    const bool more = t + 1 < tiles;
    wait_copies<1>();  // the keys of this tile; its values may be on their way
    __syncthreads();
    float dots[kHeads];
    dot_products<Kv, kVec, kHeads>(queries, key_tile + my_key * d, d, dots);
    if (threadIdx.x % kLanesPerKey == 0) {
#pragma unroll
      for (int h = 0; h < kHeads; ++h) scores[h][my_key] = dots[h] * a.scale;
    }
    __syncthreads();  // scores are there, and nobody reads the keys any more
    if (more) load_tile<Kv, kVec>(keys, offsets + (t + 1) * kTileKeys, d, key_tile);
    commit_copies();
    if (warp < kHeads) {
      const float score = t * kTileKeys + lane < count ? scores[warp][lane] : -INFINITY;
      const float new_largest = fmaxf(largest, warp_max(score));
      const float weight = expf(score - new_largest);
      const float factor = expf(largest - new_largest);
      sum = sum * factor + warp_sum(weight);
      largest = new_largest;
      weights[lane][warp] = weight;
      if (lane == 0) rescale[warp] = factor;
    }
    wait_copies<1>();  // the values; the next keys may be on their way
    __syncthreads();
    if (part < parts) {
#pragma unroll
      for (int h = 0; h < kHeads; ++h) sums[h] *= rescale[h];
#pragma unroll 4
      for (int k = part; k < kTileKeys; k += parts) {
        const float value = to_float(value_tile[k * d + column]);
#pragma unroll
        for (int h = 0; h < kHeads; ++h) sums[h] = fmaf(weights[k][h], value, sums[h]);
      }
    }
    __syncthreads();  // nobody reads the values or weights any more
    if (more) load_tile<Kv, kVec>(values, offsets + (t + 1) * kTileKeys, d, value_tile);
    commit_copies();
  }

  if (part < parts) {
#pragma unroll
    for (int h = 0; h < kHeads; ++h) parts_sums[(part * kHeads + h) * d + column] = sums[h];
  }
  if (warp < kHeads && lane == 0) {
    largest_of[warp] = largest;
    sum_of[warp] = sum;
  }
  __syncthreads();
  const bool whole = length <= kGroupKeys;  // the only group of the row
  for (int i = threadIdx.x; i < tile.count * d; i += kAttentionThreads) {
    const int h = i / d, c = i % d, head = tile.first_head + h;
    float total = 0.0f;
    for (int p = 0; p < parts; ++p) total += parts_sums[(p * kHeads + h) * d + c];
    if (whole) {
      out.store(tile.row, static_cast<int64_t>(head) * d + c, total / sum_of[h]);
    } else {
      const int64_t at = partials.at(tile.row, a.heads, head, static_cast<int>(blockIdx.y));
      partials.sums[at * d + c] = total;
      if (c == 0) partials.stats[at] = make_float2(largest_of[h], sum_of[h]);
    }
  }
}

// One block of threads per (row, head): its groups in order.
__global__ void fold_groups(Partials partials, const int32_t* lengths, int heads, int head_dim, Output out) {
  wait_for_predecessor();
  let_successor_begin();
  const int64_t row = blockIdx.x / heads;
  const int head = static_cast<int>(blockIdx.x % heads);
  const int length = lengths[row];
  if (length <= kGroupKeys) return;  // attend_group was done with it
  const int groups = (length + kGroupKeys - 1) / kGroupKeys;
  const int64_t first = partials.at(row, heads, head, 0);
  float largest = -INFINITY;
#pragma unroll 8
  for (int g = 0; g < groups; ++g) largest = fmaxf(largest, partials.stats[first + g].x);
  for (int c = threadIdx.x; c < head_dim; c += blockDim.x) {
    float sum = 0.0f, total = 0.0f;
#pragma unroll 8
    for (int g = 0; g < groups; ++g) {
      const float2 stats = partials.stats[first + g];
      const float factor = expf(stats.x - largest);
      sum = fmaf(stats.y, factor, sum);
      total = fmaf(partials.sums[(first + g) * head_dim + c], factor, total);
    }
    out.store(row, static_cast<int64_t>(head) * head_dim + c, total / sum);
  }
}

void launch_groups(Queries a, const KvLayer& kv, int64_t rows, const Partials& partials, const Output& out, const Stream& stream) {
  dispatch(kv, a.group_heads, [&](auto type, auto vec, auto heads) {
    using Kv = decltype(type);
    constexpr int kHeads = decltype(heads)::value;
    const int d = a.cache.head_dim;
    a.head_tiles = (a.group_heads + kHeads - 1) / kHeads;
    const size_t shared = 2 * sizeof(Kv) * static_cast<size_t>(kTileKeys * d) +
                          sizeof(float) * static_cast<size_t>(kHeads * d + std::min(kAttentionThreads / d, kMaxParts) * kHeads * d);
    const auto kernel = attend_group<Kv, decltype(vec)::value, kHeads>;
    allow_shared_memory(kernel, shared);
    const dim3 grid(static_cast<unsigned>(rows * a.cache.kv_heads * a.head_tiles), static_cast<unsigned>(partials.groups));
    launch_dependent(stream, {grid, kAttentionThreads, shared}, "paged_attention", kernel, a, elements<const Kv>(kv.keys), elements<const Kv>(kv.values), partials,
                     out);
  });
}

}  // namespace

void CudaBackend::paged_attention(const TensorView& q, const KvLayer& kv, const PagedContext& context, const TensorView& out) {
  op_checks::paged_attention(q, kv, context, out);
  if (q.rows() == 0) return;
  const Queries all = queries_of(q, kv, context);
  const int d = all.cache.head_dim;
  check(d <= kMaxHeadDim, ErrorCode::kInternal, "paged_attention: heads of at most ", kMaxHeadDim, " numbers, got ", d);
  if (tiled_attention_ && context.tiled && takes_attention_tiled(kv, all)) {
    launch_attention_tiled(all, kv, q.rows(), {out.data, out.row_stride, out.dtype == DType::kBF16}, stream_);
    return;
  }
  // Lengths are on the device: the tables bound them. Blocks of threads beyond a row's length end at once.
  const int64_t most_groups = ceil_div(context.block_tables.cols() * all.cache.block_tokens, kGroupKeys);
  check(most_groups <= 65535, ErrorCode::kInternal, "paged_attention: tables of ", context.block_tables.cols(), " blocks are too long");
  const int64_t row_partials = most_groups > 1 ? all.heads * most_groups : 0;
  const int64_t row_bytes = row_partials * (d * static_cast<int64_t>(sizeof(float)) + static_cast<int64_t>(sizeof(float2)));
  const int64_t slice = std::clamp<int64_t>(limits_.attention_sums / std::max<int64_t>(row_bytes, 1), 1, q.rows());
  WorkspacePlan plan;
  const size_t sums_at = plan.add<float>(slice * row_partials * d), stats_at = plan.add<float2>(slice * row_partials);
  std::byte* memory = workspace_.get<std::byte>(static_cast<int64_t>(plan.bytes()));
  const Partials partials{static_cast<int>(most_groups), reinterpret_cast<float*>(memory + sums_at), reinterpret_cast<float2*>(memory + stats_at)};

  const DeviceSize device{sm_count_, block_shared_bytes_};
  for (int64_t begin = 0; begin < q.rows(); begin += slice) {
    const int64_t rows = std::min(slice, q.rows() - begin);
    Queries a = all;
    a.q += begin * a.q_stride;
    a.table_rows += begin;
    a.lengths += begin;
    const Output to{out.data + static_cast<size_t>(begin * out.row_stride) * dtype_size(out.dtype), out.row_stride, out.dtype == DType::kBF16};
    if (takes_attention_mma(kv, a, device)) {
      launch_attention_mma(a, kv, rows, context.block_tables.rows(), device, partials, to, stream_);
    } else {
      launch_groups(a, kv, rows, partials, to, stream_);
    }
    if (most_groups == 1) continue;
    const auto columns = static_cast<unsigned>(std::min((d + 31) / 32 * 32, kAttentionThreads));
    const auto blocks = static_cast<unsigned>(rows * a.heads);
    launch_dependent(stream_, {blocks, columns, 0, blocks <= kMostEarlyFolds}, "paged_attention", fold_groups, partials, a.lengths, a.heads, d, to);
  }
}

}  // namespace ardiff
