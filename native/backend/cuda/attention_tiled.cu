// FlashAttention-2 (arXiv 2307.08691, algorithm 1) over the paged cache: a block of threads has one kv head and the queries of up to 64
// columns (row, head) of rows that stand together and read the same table, 16 columns a warp, and goes through the keys in tiles of 64
// positions. Queries, scores, running softmax and results stay in registers; softmax weights are rounded to bf16 and go from the
// accumulators of the scores into the product with the values, whose left operand has the same layout.
//
// Tiles begin at multiples of 64 from position 0 and a column's numbers meet no other column's, so its bits depend on its own query,
// keys and length alone. A tile without a key of the column changes nothing, to the bit: its weights are zeros and its factor is
// exp2(0) = 1. Whether a warp goes through such tiles, as its other columns need, or not makes no difference.
#include <type_traits>

#include "backend/cuda/async_copy.cuh"
#include "backend/cuda/attention_columns.cuh"
#include "backend/cuda/attention_tiled.cuh"
#include "backend/cuda/launch.cuh"
#include "backend/cuda/mma.cuh"

namespace ardiff::cuda {
namespace {

constexpr int kWarps = 4;
constexpr int kThreads = kWarps * 32;
constexpr int kColumns = kWarps * 16;  // of a block: (row, query head)
constexpr int kMostHeadDim = 128;
constexpr int kPad = 8;               // bf16 behind each row in shared memory: ldmatrix meets no bank twice
// Blocks of a multiprocessor at once: their registers hold everything, nothing is spilled.
__host__ __device__ constexpr int blocks_at_once(int head_dim) { return head_dim <= 32 ? 4 : head_dim <= 80 ? 3 : 2; }
constexpr float kLog2E = 1.44269504f;

constexpr int tile_size(int head_dim) { return kTiledKeys * (head_dim + kPad); }
// Keys and values, each twice: one tile is looked at while the next one is on its way. 68 KiB for heads of 128 numbers.
constexpr size_t shared_bytes(int head_dim) { return sizeof(bf16) * 4 * static_cast<size_t>(tile_size(head_dim)); }

template <int kHeadDim>
__global__ void __launch_bounds__(kThreads, blocks_at_once(kHeadDim))
    attend_tiled(Queries a, const bf16* keys, const bf16* values, int64_t rows, int block_rows, Output out) {
  constexpr int kStride = kHeadDim + kPad, kTile = tile_size(kHeadDim), kSteps = kHeadDim / 16, kPieces = kHeadDim / 8;
  extern __shared__ __align__(16) unsigned char shared[];
  __shared__ int64_t offsets[2][kTiledKeys];  // of the positions of a tile in the cache; -1 beyond the run's longest

  wait_for_predecessor();
  let_successor_begin();
  const int kv_head = static_cast<int>(blockIdx.x % static_cast<unsigned>(a.cache.kv_heads));
  const int64_t begin = static_cast<int64_t>(blockIdx.x) / a.cache.kv_heads * block_rows;
  const int64_t end = min(begin + block_rows, rows);
  const int thread = static_cast<int>(threadIdx.x), warp = thread / 32, lane = thread % 32;
  bf16* const tiles = reinterpret_cast<bf16*>(shared);  // (2, keys and values, kTiledKeys, kStride)
  const float scale = a.scale * kLog2E;

  // Mostly one run. Rows that do not share take turns.
  SharingRows run{};
  for (int64_t row = begin; row < end; row += run.rows) {
    run = sharing_rows(a, row, static_cast<int>(end - row));
    const int32_t* table = a.tables + static_cast<int64_t>(a.table_rows[row]) * a.table_stride;
    const int count = (run.longest + kTiledKeys - 1) / kTiledKeys;
    const auto place = [&](int tile) {
      if (thread >= kTiledKeys) return;
      const int position = tile * kTiledKeys + thread;
      offsets[tile % 2][thread] = position < run.longest ? position_offset(a.cache, table, position, kv_head) : -1;
    };
    const auto load = [&](int tile) {
      bf16* const to = tiles + tile % 2 * 2 * kTile;
#pragma unroll 4
      for (int i = thread; i < kTiledKeys * kPieces; i += kThreads) {
        const int key = i / kPieces, number = i % kPieces * 8;
        const int64_t offset = offsets[tile % 2][key];
        const int64_t from = offset < 0 ? 0 : offset + number;
        copy_async_16(to + key * kStride + number, keys + from, offset >= 0);
        copy_async_16(to + kTile + key * kStride + number, values + from, offset >= 0);
      }
      commit_copies();
    };
    place(0);
    place(1);
    __syncthreads();  // places are there, and nobody reads tiles of the run before any more
    load(0);

    const int my_column = warp * 16 + lane / 4;
    const Column columns[2] = {column_of(a, run, kv_head, my_column), column_of(a, run, kv_head, my_column + 8)};
    const int longest = warp_most(max(columns[0].length, columns[1].length));
    const int shortest = warp_least(min(columns[0].length, columns[1].length));
    uint32_t queries[kSteps][4];  // 16 columns by 16 numbers: numbers 2 (lane % 4) and the next, of the first 8 and of the second
#pragma unroll
    for (int e = 0; e < 2; ++e) {
      const float* const q = a.q + columns[e].row * a.q_stride + static_cast<int64_t>(columns[e].head) * kHeadDim + lane % 4 * 2;
#pragma unroll
      for (int k = 0; k < kSteps * 2; ++k) queries[k / 2][k % 2 * 2 + e] = columns[e].length > 0 ? pack(q[k * 8], q[k * 8 + 1]) : 0;
    }

    Softmax softmax[2];
    float sums[kPieces][4] = {};  // columns lane / 4 (and + 8, the latter two) by numbers 2 (lane % 4) and the next of each 8
    for (int tile = 0; tile < count; ++tile) {
      wait_copies<0>();
      __syncthreads();  // the tile is there, and nobody reads the one before any more
      if (tile + 1 < count) load(tile + 1);
      place(tile + 2);
      const int first = tile * kTiledKeys;
      if (first >= longest) continue;  // the whole warp
      const bf16* const key_tile = tiles + tile % 2 * 2 * kTile;
      const bf16* const value_tile = key_tile + kTile;

      float scores[kTiledKeys / 8][4] = {};  // columns as of sums, by keys 2 (lane % 4) and the next of each 8
#pragma unroll
      for (int k = 0; k < kSteps; ++k) {
#pragma unroll
        for (int j = 0; j < kTiledKeys / 8; j += 2) {
          uint32_t b[2][2];
          load_b_fragments(key_tile + j * 8 * kStride + k * 16, kStride, lane, b[0], b[1]);
          multiply_add(scores[j], queries[k], b[0]);
          multiply_add(scores[j + 1], queries[k], b[1]);
        }
      }
      if (first + kTiledKeys > shortest) {
#pragma unroll
        for (int j = 0; j < kTiledKeys / 8; ++j) {
#pragma unroll
          for (int e = 0; e < 4; ++e) {
            if (first + j * 8 + lane % 4 * 2 + e % 2 >= columns[e / 2].length) scores[j][e] = -INFINITY;
          }
        }
      }
      const float factors[2] = {softmax[0].fold(scores, 0, scale), softmax[1].fold(scores, 2, scale)};
#pragma unroll
      for (int c = 0; c < kPieces; ++c) {
#pragma unroll
        for (int e = 0; e < 4; ++e) sums[c][e] *= factors[e / 2];
      }
#pragma unroll
      for (int j = 0; j < kTiledKeys / 8; j += 2) {
        const uint32_t weights[4] = {pack(scores[j][0], scores[j][1]), pack(scores[j][2], scores[j][3]),
                                     pack(scores[j + 1][0], scores[j + 1][1]), pack(scores[j + 1][2], scores[j + 1][3])};
#pragma unroll
        for (int c = 0; c < kPieces; c += 2) {
          uint32_t b[2][2];  // keys 0-7 and 8-15 of the first 8 numbers, then of the second
          load_matrices_transposed(value_tile + (j * 8 + lane % 16) * kStride + c * 8 + lane / 16 * 8, b[0][0], b[0][1], b[1][0], b[1][1]);
          multiply_add(sums[c], weights, b[0]);
          multiply_add(sums[c + 1], weights, b[1]);
        }
      }
    }

#pragma unroll
    for (int e = 0; e < 2; ++e) {
      const float inverse = 1.0f / column_sum(softmax[e].sum);
      if (columns[e].length == 0) continue;
      const int64_t at = static_cast<int64_t>(columns[e].head) * kHeadDim + lane % 4 * 2;
#pragma unroll
      for (int c = 0; c < kPieces; ++c) {
        // + 0: a sum of -0 is +0 after a tile of zero weights.
        out.store(columns[e].row, at + c * 8, (sums[c][2 * e] + 0.0f) * inverse);
        out.store(columns[e].row, at + c * 8 + 1, (sums[c][2 * e + 1] + 0.0f) * inverse);
      }
    }
  }
}

template <int kHeadDim>
void launch(const Queries& a, const KvLayer& kv, int64_t rows, const Output& out, const Stream& stream) {
  const int block_rows = kColumns / a.group_heads;
  const auto kernel = attend_tiled<kHeadDim>;
  allow_shared_memory(kernel, shared_bytes(kHeadDim));
  const auto blocks = static_cast<unsigned>(ceil_div(rows, block_rows) * a.cache.kv_heads);
  launch_dependent(stream, {blocks, kThreads, shared_bytes(kHeadDim), blocks <= kMostEarlyBlocks}, "paged_attention", kernel, a,
                   elements<const bf16>(kv.keys), elements<const bf16>(kv.values), rows, block_rows, out);
}

// Calls visit with head_dim as an integral constant.
template <int kHeadDim = 16, typename Visit>
void visit_head_dim(int head_dim, Visit&& visit) {
  if constexpr (kHeadDim <= kMostHeadDim) {
    if (head_dim == kHeadDim) return visit(std::integral_constant<int, kHeadDim>{});
    visit_head_dim<kHeadDim + 16>(head_dim, visit);
  }
}

}  // namespace

bool takes_attention_tiled(const KvLayer& kv, const Queries& a) {
  const int d = a.cache.head_dim;
  return kv.keys.dtype == DType::kBF16 && d % 16 == 0 && d <= kMostHeadDim && a.group_heads <= kColumns;
}

void launch_attention_tiled(const Queries& a, const KvLayer& kv, int64_t rows, const Output& out, const Stream& stream) {
  visit_head_dim(a.cache.head_dim, [&](auto head_dim) { launch<decltype(head_dim)::value>(a, kv, rows, out, stream); });
}

}  // namespace ardiff::cuda
