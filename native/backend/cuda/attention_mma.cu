// A block of threads has one kv head and the queries of rows that stand together and read the same cache: columns (row, head), eight to a
// tile of tensor core products m16n8k16. It goes through some groups of kGroupKeys positions, the next group's keys on their way while
// values are summed, its values while the next scores are. Scores are keys times queries, results values times weights, both
// transposed, so that few columns fill a product. Queries and weights are taken as the sum of two bf16 numbers, which keeps 16 bits
// of them. A column's numbers do not depend on others, nor on how many groups a block has: a row has the same bits alone, verified with its
// neighbours or in a prefill.
#include <algorithm>

#include "backend/cuda/async_copy.cuh"
#include "backend/cuda/attention_mma.cuh"
#include "backend/cuda/launch.cuh"
#include "backend/cuda/mma.cuh"

namespace ardiff::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / 32;
constexpr int kTile = 16;      // keys, or numbers of a head, of one product
constexpr int kMostTiles = 4;  // of eight columns: six rows of five query heads
constexpr int kMostHeadDim = 128;
constexpr int kPad = 8;  // bf16 behind each row in shared memory: ldmatrix meets no bank twice
constexpr int kWeightStride = kGroupKeys + kPad;
static_assert(kWarps * kTile == kGroupKeys);

__host__ __device__ constexpr int stride_of(int head_dim) { return head_dim + kPad; }

// Rows and columns of a block.
struct Run {
  int64_t first;
  int rows, columns, longest;
};

// The rows from `row` on that share its table, up to the next multiple of block_rows; rows: 0 where the row belongs to one before it.
__device__ inline Run run_of(const Queries& a, int64_t row, int64_t rows, int block_rows) {
  if (block_rows == 1) return {row, 1, a.group_heads, a.lengths[row]};
  const auto within = static_cast<int>(row % block_rows);
  if (within != 0 && a.table_rows[row - 1] == a.table_rows[row]) return {row, 0, 0, 0};
  const SharingRows sharing = sharing_rows(a, row, static_cast<int>(min(static_cast<int64_t>(block_rows - within), rows - row)));
  return {row, sharing.rows, sharing.rows * a.group_heads, sharing.longest};
}

// Keys of a group that products look at, whole 16.
__device__ inline int padded_keys(const Run& run, int group) {
  return (min(run.longest - group * kGroupKeys, kGroupKeys) + kTile - 1) / kTile * kTile;
}

// A number as the sum of two bf16, the second what the first leaves.
__device__ inline void split(float value, bf16* high, bf16* low) {
  *high = __float2bfloat16_rn(value);
  *low = __float2bfloat16_rn(value - __bfloat162float(*high));
}

// Fragments of both parts of eight columns at 16 of depth: parts lie as (columns, stride), the second `low` elements after the first.
__device__ inline void load_split(const bf16* high, int low, int stride, int lane, uint32_t (&of_high)[2], uint32_t (&of_low)[2]) {
  load_matrices(high + (lane / 16 != 0 ? low : 0) + lane % 8 * stride + lane / 8 % 2 * 8, of_high[0], of_high[1], of_low[0], of_low[1]);
}

// sums += of_rows times the columns of each tile, both parts of them, at 16 of depth: the first column's lie at `high`.
template <int kTiles>
__device__ inline void multiply_columns(float (&sums)[kTiles][4], const uint32_t (&of_rows)[4], const bf16* high, int low, int stride,
                                        int tiles, int lane) {
#pragma unroll
  for (int j = 0; j < kTiles; ++j) {
    if (j >= tiles) break;
    uint32_t of_high[2], of_low[2];
    load_split(high + j * 8 * stride, low, stride, lane, of_high, of_low);
    multiply_add(sums[j], of_rows, of_low);
    multiply_add(sums[j], of_rows, of_high);
  }
}

// Sum or largest over the eight lanes with the same columns.
template <typename Combine>
__device__ float over_rows(float value, const Combine& combine) {
#pragma unroll
  for (int step = 4; step < 32; step *= 2) value = combine(value, __shfl_xor_sync(0xffffffffu, value, step));
  return value;
}

template <int kTiles>
__global__ void __launch_bounds__(kThreads, 2) attend_groups_mma(Queries a, const bf16* keys, const bf16* values, int64_t rows,
                                                                 int block_rows, int block_groups, Partials partials, Output out) {
  constexpr int kColumns = kTiles * 8;
  extern __shared__ __align__(16) unsigned char shared[];
  // Of a group's positions in the cache, of the one that is there and of the next; -1 behind the last.
  __shared__ int64_t offsets[2][kGroupKeys];
  __shared__ float largest_of[kWarps][kColumns], sum_of[kWarps][kColumns];
  __shared__ int length_of[kColumns];

  wait_for_predecessor();
  let_successor_begin();
  const int kv_head = static_cast<int>(blockIdx.x % static_cast<unsigned>(a.cache.kv_heads));
  const Run run = run_of(a, static_cast<int64_t>(blockIdx.x) / a.cache.kv_heads, rows, block_rows);
  const int first_group = static_cast<int>(blockIdx.y) * block_groups;
  if (run.rows == 0 || first_group * kGroupKeys >= run.longest) return;  // the whole block
  const int last_group = min(first_group + block_groups, (run.longest + kGroupKeys - 1) / kGroupKeys) - 1;
  const int tiles = (run.columns + 7) / 8;
  const int d = a.cache.head_dim, stride = stride_of(d);
  bf16* const key_tile = reinterpret_cast<bf16*>(shared);
  bf16* const value_tile = key_tile + kGroupKeys * stride;
  bf16* const queries = value_tile + kGroupKeys * stride;  // (2, kColumns, stride)
  bf16* const weights = queries + 2 * kColumns * stride;   // (2, kColumns, kWeightStride)
  constexpr int kLowWeight = kColumns * kWeightStride;
  const int low_query = kColumns * stride;

  const int32_t* table = a.tables + a.table_rows[run.first] * a.table_stride;
  const auto place_of = [&](int group) -> int64_t {
    const int position = group * kGroupKeys + static_cast<int>(threadIdx.x);
    return threadIdx.x < kGroupKeys && position < run.longest ? position_offset(a.cache, table, position, kv_head) : -1;
  };
  const auto place = [&](int group, int64_t offset) {
    if (threadIdx.x < kGroupKeys) offsets[group % 2][threadIdx.x] = offset;
  };
  // A thread has one piece of every so many keys. Of a group that there is; either way what is waited for counts it.
  const int pieces = d / 8, my_piece = static_cast<int>(threadIdx.x) % pieces * 8, keys_at_once = kThreads / pieces;
  const int my_first_key = static_cast<int>(threadIdx.x) / pieces;
  const auto load = [&](const bf16* cache, int group, bf16* to) {
    if (group <= last_group && my_first_key < keys_at_once) {
      const int padded = padded_keys(run, group);
#pragma unroll 4
      for (int key = my_first_key; key < padded; key += keys_at_once) {
        const int64_t offset = offsets[group % 2][key];
        copy_async_16(to + key * stride + my_piece, cache + (offset < 0 ? 0 : offset + my_piece), offset >= 0);
      }
    }
    commit_copies();
  };
  place(first_group, place_of(first_group));
  place(first_group + 1, place_of(first_group + 1));
  if (threadIdx.x < kColumns) {
    const int column = static_cast<int>(threadIdx.x);
    length_of[column] = column < run.columns ? a.lengths[run.first + column / a.group_heads] : 0;
  }
  __syncthreads();
  load(keys, first_group, key_tile);
  load(values, first_group, value_tile);
  for (int i = static_cast<int>(threadIdx.x); i < tiles * 8 * d; i += kThreads) {
    const int column = i / d, c = i % d;
    float value = 0.0f;
    if (column < run.columns) {
      value = a.q[(run.first + column / a.group_heads) * a.q_stride +
                  (static_cast<int64_t>(kv_head) * a.group_heads + column % a.group_heads) * d + c];
    }
    split(value, queries + column * stride + c, queries + low_query + column * stride + c);
  }

  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const int first_key = warp * kTile, my_column = lane % 4 * 2;
  for (int group = first_group; group <= last_group; ++group) {
    const int begin = group * kGroupKeys, count = min(run.longest - begin, kGroupKeys);
    wait_copies<1>();
    __syncthreads();  // keys and queries are there

    // Scores of the warp's 16 keys: key lane / 4 (+ 8), columns 2 (lane % 4) and the next of each tile.
    const int my_key = begin + first_key + lane / 4;
    float scores[kTiles][4] = {};
    if (first_key < count) {
      for (int k = 0; k < d; k += 16) {
        uint32_t of_keys[4];
        load_a_fragment(key_tile + first_key * stride + k, stride, lane, of_keys);
        multiply_columns(scores, of_keys, queries + k, low_query, stride, tiles, lane);
      }
    }
#pragma unroll
    for (int j = 0; j < kTiles; ++j) {
      if (j >= tiles) break;
#pragma unroll
      for (int e = 0; e < 4; ++e)
        scores[j][e] = my_key + e / 2 * 8 < length_of[j * 8 + my_column + e % 2] ? scores[j][e] * a.scale : -INFINITY;
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        const float most = over_rows(fmaxf(scores[j][e], scores[j][e + 2]), [](float x, float y) { return fmaxf(x, y); });
        if (lane < 4) largest_of[warp][j * 8 + my_column + e] = most;
      }
    }
    __syncthreads();  // the largest of all warps; nobody reads the keys any more, nor this group's offsets
    load(keys, group + 1, key_tile);
    const int64_t place_after_next = place_of(group + 2);

#pragma unroll
    for (int j = 0; j < kTiles; ++j) {
      if (j >= tiles) break;
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        const int column = j * 8 + my_column + e;
        float largest = largest_of[0][column];
#pragma unroll
        for (int w = 1; w < kWarps; ++w) largest = fmaxf(largest, largest_of[w][column]);
        if (largest == -INFINITY) largest = 0.0f;  // a column without keys in this group: all weights are zero
        const float first = expf(scores[j][e] - largest), second = expf(scores[j][e + 2] - largest);
        bf16* const to = weights + column * kWeightStride + first_key + lane / 4;
        split(first, to, to + kLowWeight);
        split(second, to + 8, to + 8 + kLowWeight);
        const float sum = over_rows(first + second, [](float x, float y) { return x + y; });
        if (lane < 4) sum_of[warp][column] = sum;
      }
    }
    wait_copies<1>();
    __syncthreads();  // values and weights are there

    for (int number = warp * kTile; number < d; number += kWarps * kTile) {
      float sums[kTiles][4] = {};
      for (int k = 0; k < padded_keys(run, group); k += 16) {
        uint32_t of_values[4];
        load_matrices_transposed(value_tile + (k + lane / 16 * 8 + lane % 8) * stride + number + lane / 8 % 2 * 8, of_values[0],
                                 of_values[1], of_values[2], of_values[3]);
        multiply_columns(sums, of_values, weights + k, kLowWeight, kWeightStride, tiles, lane);
      }
#pragma unroll
      for (int j = 0; j < kTiles; ++j) {
        if (j >= tiles) break;
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          const int column = j * 8 + my_column + e, length = length_of[column];
          if (column >= run.columns || length <= begin) continue;
          const int64_t row = run.first + column / a.group_heads;
          const int head = kv_head * a.group_heads + column % a.group_heads;
          float sum = 0.0f, largest = -INFINITY;
#pragma unroll
          for (int w = 0; w < kWarps; ++w) {
            sum += sum_of[w][column];
            largest = fmaxf(largest, largest_of[w][column]);
          }
          const int c = number + lane / 4;
          if (length <= kGroupKeys) {  // the only group of the row
            out.store(row, static_cast<int64_t>(head) * d + c, sums[j][e] / sum);
            out.store(row, static_cast<int64_t>(head) * d + c + 8, sums[j][e + 2] / sum);
          } else {
            const int64_t at = partials.at(row, a.heads, head, group);
            partials.sums[at * d + c] = sums[j][e];
            partials.sums[at * d + c + 8] = sums[j][e + 2];
            if (c == 0) partials.stats[at] = make_float2(largest, sum);
          }
        }
      }
    }
    place(group + 2, place_after_next);
    __syncthreads();  // nobody reads values, weights or what the warps found any more
    load(values, group + 1, value_tile);
  }
  wait_copies<0>();
}

// Of a block of as many tiles of columns.
constexpr size_t dynamic_bytes(int tiles, int head_dim) {
  const int columns = tiles * 8;
  return sizeof(bf16) * static_cast<size_t>((2 * kGroupKeys + 2 * columns) * stride_of(head_dim) + 2 * columns * kWeightStride);
}
constexpr size_t static_bytes(int tiles) {
  return sizeof(int64_t) * 2 * kGroupKeys + sizeof(float) * static_cast<size_t>(tiles * 8 * (2 * kWarps + 1));
}

// Compute capability 8.6 and 8.9 have room for one tile less. Bits do not depend on it.
constexpr int kFewerTiles = kMostTiles - 1;
static_assert(dynamic_bytes(kFewerTiles, kMostHeadDim) + static_bytes(kFewerTiles) <= 99 << 10);
int most_tiles(int head_dim, size_t shared_bytes) {
  return dynamic_bytes(kMostTiles, head_dim) + static_bytes(kMostTiles) <= shared_bytes ? kMostTiles : kFewerTiles;
}

// Groups of a block, so that all blocks are there at once or in rounds that are nearly full. pairs: of rows that share a cache and kv
// heads.
int groups_of_block(int64_t pairs, int groups, int multiprocessors) {
  constexpr double kStart = 0.5;  // of a block before its first group, in groups
  int best = 1;
  double least = 0.0;
  for (int each = 1; each <= groups; ++each) {
    const int64_t blocks = pairs * ceil_div(groups, each);
    const double time = static_cast<double>(ceil_div(blocks, 2 * multiprocessors)) * (each + kStart);
    if (each > 1 && time >= least) continue;
    best = each;
    least = time;
  }
  return best;
}

template <int kTiles>
void launch(const Queries& a, const KvLayer& kv, int64_t rows, int block_rows, int block_groups, const Partials& partials,
            const Output& out, const Stream& stream) {
  const int d = a.cache.head_dim;
  const size_t shared = dynamic_bytes(kTiles, d);
  const auto kernel = attend_groups_mma<kTiles>;
  allow_shared_memory(kernel, shared);
  const dim3 grid(static_cast<unsigned>(rows * a.cache.kv_heads), static_cast<unsigned>(ceil_div(partials.groups, block_groups)));
  launch_dependent(stream, {grid, kThreads, shared, grid.x * grid.y <= kMostEarlyBlocks}, "paged_attention", kernel, a,
                   elements<const bf16>(kv.keys), elements<const bf16>(kv.values), rows, block_rows, block_groups, partials, out);
}

}  // namespace

bool takes_attention_mma(const KvLayer& kv, const Queries& a, const DeviceSize& device) {
  const int d = a.cache.head_dim;
  return kv.keys.dtype == DType::kBF16 && d % kTile == 0 && d <= kMostHeadDim &&
         a.group_heads <= most_tiles(d, device.block_shared_bytes) * 8;
}

void launch_attention_mma(const Queries& a, const KvLayer& kv, int64_t rows, int64_t tables, const DeviceSize& device,
                          const Partials& partials, const Output& out, const Stream& stream) {
  // The tables are on the device: as many rows as tables mean that each has its own, a multiple that each has as many.
  const int tiles = most_tiles(a.cache.head_dim, device.block_shared_bytes);
  const int64_t most = tiles * 8 / a.group_heads;
  const int64_t block_rows = rows <= tables ? 1 : rows % tables == 0 && rows / tables <= most ? rows / tables : most;
  const int64_t pairs = std::max(std::min(rows, tables), ceil_div(rows, block_rows)) * a.cache.kv_heads;
  const int block_groups = groups_of_block(pairs, partials.groups, device.multiprocessors);
  const auto launch_tiles = block_rows * a.group_heads <= 8 ? launch<1> : tiles == kMostTiles ? launch<kMostTiles> : launch<kFewerTiles>;
  launch_tiles(a, kv, rows, static_cast<int>(block_rows), block_groups, partials, out, stream);
}

}  // namespace ardiff::cuda
