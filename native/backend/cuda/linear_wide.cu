// Linear layers of more than 32 rows in bf16 on compute capability 9.0a. Weights, in the layout that linear_few.cu reads, and up to 160
// rows, which a kernel in front puts in order (arrange_rows_kernel), come to shared memory as whole pieces, several stages ahead; weights
// are the left operand of warpgroup products, by way of registers, and are read once for all rows of a tile.
//
// A block has 128 features, 64 for each of two warpgroups, and one half of the depth; the two blocks of a cluster have the halves and
// exchange their sums. They stay for all of their tiles, so that a tile's first pieces come while the last one is finished. Sums of a
// result are those of linear_few.cu in the same order, and the same bits (docs/cuda.md).
//
// Pairs (product_after.cuh): the first half of a tile's features goes with the second, 64 of gate with 64 of up, or the halves of a head.
#include <algorithm>

#include "backend/cuda/bulk_copy.cuh"
#include "backend/cuda/launch.cuh"
#include "backend/cuda/linear.cuh"
#include "backend/cuda/memory.h"
#include "backend/cuda/product_after.cuh"
#include "backend/cuda/weight_layout.cuh"
#include "backend/cuda/wide_rows.h"

namespace ardiff::cuda {
namespace {

constexpr int kGroups = 2;  // warpgroups that multiply
constexpr int kGroupFeatures = 64;
constexpr int kBlockFeatures = kGroups * kGroupFeatures;
constexpr int kBlockTiles = kBlockFeatures / kTileFeatures;
constexpr int kMultiplying = kGroups * 128;  // threads
constexpr int kAsking = 4;                   // warps that ask for pieces: a warpgroup, as registers are given to whole ones
constexpr int kAskingWeights = kAsking - 1;  // and the last for rows, which may not be there yet
constexpr int kThreads = kMultiplying + kAsking * 32;
constexpr int kRegisters = 232, kFewRegisters = 40;
constexpr int kHalves = 2;
constexpr int kStageSteps = 2;
constexpr int kStageWeights = kBlockTiles * kStageSteps * kTileBytes;
constexpr int kMostShared = 227 << 10;

// kRows of a tile.
template <int kRows>
struct Shape {
  static constexpr int kSums = kRows / 2;                    // of a thread
  static constexpr int kShare = kSums / 2;                   // of them, those that this block finishes, and those that it sends
  static constexpr int kStepBytes = kRows * kStepDepth * 2;  // of rows
  static constexpr int kStageBytes = kStageWeights + kStageSteps * kStepBytes;
  static constexpr int kExchangeBytes = kShare * kMultiplying * 4;
  static constexpr int kStages = (kMostShared - kExchangeBytes - 1024) / kStageBytes;
  static constexpr int kSharedBytes = kStages * kStageBytes + kExchangeBytes;
};

// Rows as wide_rows.h says, zeros behind the last: a thread has one row's 32 numbers of a step.
__global__ void arrange_rows_kernel(const bf16* x, int64_t stride, int rows, int tile_rows, int steps, uint4* to) {
  wait_for_predecessor();
  let_successor_begin();
  const auto count = static_cast<unsigned>((rows + tile_rows - 1) / tile_rows * steps * tile_rows);  // at most those of 256 MiB of 64 bytes
  for (auto i = static_cast<unsigned>(first_item()); i < count; i += static_cast<unsigned>(item_step())) {
    const unsigned at = i / tile_rows, m = at / steps * tile_rows + i % tile_rows;
    const auto* from = reinterpret_cast<const uint4*>(x + m * stride) + at % steps * 4;
    uint4 in[4];
#pragma unroll
    for (int t = 0; t < 4; ++t) in[t] = m < rows ? from[t] : make_uint4(0, 0, 0, 0);
    uint4* out = to + static_cast<int64_t>(at) * 4 * tile_rows + i % tile_rows;
    out[0] = make_uint4(in[0].x, in[1].x, in[2].x, in[3].x);
    out[tile_rows] = make_uint4(in[0].y, in[1].y, in[2].y, in[3].y);
    out[2 * tile_rows] = make_uint4(in[0].z, in[1].z, in[2].z, in[3].z);
    out[3 * tile_rows] = make_uint4(in[0].w, in[1].w, in[2].w, in[3].w);
  }
}

// Tiles of results, kBlockFeatures by rows of a tile, those of the same features one after the other; behind `whole` of them tiles of half
// as many features, of which the second warpgroup has none.
struct Tiles {
  int rows, whole, count;  // tiles of rows; whole tiles; all
};

struct Tile {
  int first, features;  // tiles of features: the first one, or with pairs the first of as many in pairs; how many
  int rows;             // tile of rows
};

__device__ inline Tile tile_of(const Tiles& tiles, int i) {
  constexpr int kHalf = kBlockTiles / 2;
  if (i < tiles.whole) return {i / tiles.rows * kBlockTiles, kBlockTiles, i % tiles.rows};
  return {tiles.whole * kBlockTiles + (i - tiles.whole) * kHalf, kHalf, 0};
}

// The f-th feature tile of a tile.
__device__ inline int feature_tile_of(const ProductAfter& after, const Tile& tile, int f) {
  if (!after.in_pairs()) return tile.first + f;
  const int half = tile.features / 2;
  return after.pairs.first(tile.first / 2 + f % half) + (f < half ? 0 : after.pairs.tiles);
}

template <int kRows>
struct Block {
  using S = Shape<kRows>;
  unsigned char* stages;
  float4* exchange;             // (kShare / 4, kMultiplying), written by the other block: a warp's threads by lane % 4, then lane / 4
  uint64_t *full, *empty;       // kStages of each: a stage's pieces are there; all warps are done with them
  uint64_t *given, *taken;      // the other block's sums are in exchange; the other has read its own
  int half, begin, end, steps;  // steps of this half of the depth; all

  // One thread of each of kAsking warps: the pieces of every tile, stage by stage, the last thread the rows and the others the weights,
  // which do not wait for the kernel in front.
  __device__ void ask(int asking, const LinearTask& t, const ProductAfter& after, const unsigned char* rows, const Tiles& tiles) const {
    const int feature_tiles = (t.columns + kTileFeatures - 1) / kTileFeatures;
    int i = 0;
    for (int at = first_tile(); at < tiles.count; at += tile_step()) {
      const Tile tile = tile_of(tiles, at);
      const auto* const rows_at = rows + static_cast<int64_t>(tile.rows) * steps * S::kStepBytes;
      const int own = asking < kAskingWeights ? (tile.features - asking + kAskingWeights - 1) / kAskingWeights : 0;
      for (int step = begin; step < end; step += kStageSteps, ++i) {
        const int stage = i % S::kStages;
        wait_phase(empty + stage, (i / S::kStages + 1) % 2);
        const auto count = static_cast<uint32_t>(min(kStageSteps, end - step));
        unsigned char* const to = stages + stage * S::kStageBytes;
        arrive_expecting(full + stage, count * (own == 0 ? S::kStepBytes : own * kTileBytes));
        if (own == 0)
          copy_bulk(to + kStageWeights, rows_at + static_cast<int64_t>(step) * S::kStepBytes, count * S::kStepBytes, full + stage);
        for (int f = asking; f < own * kAskingWeights + asking; f += kAskingWeights) {
          // A tile that is not there: the first one, and nobody stores what comes of it.
          const int wanted = feature_tile_of(after, tile, f), feature_tile = wanted < feature_tiles ? wanted : 0;
          copy_bulk(to + f * kStageSteps * kTileBytes,
                    static_cast<const unsigned char*>(t.weight) + (static_cast<int64_t>(feature_tile) * steps + step) * kTileBytes,
                    count * kTileBytes, full + stage);
        }
      }
    }
  }

  // total: the slices of this half in order. i: stages before, in all tiles.
  __device__ void multiply(int& i, float (&total)[S::kSums]) const {
    const int first_slice = half * kSlicesOfHalf, lane = static_cast<int>(threadIdx.x) % 32;
    float sums[S::kSums] = {};
    uint4 weights[2][2 * kStageSteps] = {};
    int slice = first_slice, slice_end = begin, adds = 0;
    while (slice_end <= begin && slice < first_slice + kSlicesOfHalf) slice_end = slice_begin(steps, ++slice);
    for (int first = begin; first < end; first += 2 * kStageSteps) {
#pragma unroll
      for (int u = 0; u < 2; ++u) {
        const int step = first + u * kStageSteps;
        if (step >= end) break;
        const int stage = i % S::kStages;
        wait_phase(full + stage, i / S::kStages % 2);
        const unsigned char* const at = stages + stage * S::kStageBytes;
        const auto* const mine = reinterpret_cast<const uint4*>(at + static_cast<int>(threadIdx.x) / 32 * kStageSteps * kTileBytes) + lane;
#pragma unroll
        for (int p = 0; p < 2 * kStageSteps; ++p) weights[u][p] = mine[p * 32];
#pragma unroll
        for (int p = 0; p < 2 * kStageSteps; ++p) keep_in_order(weights[u][p]);
        begin_products();
#pragma unroll
        for (int s = 0; s < kStageSteps; ++s) {
          if (step + s >= end) break;
          if (step + s == slice_end) {
            commit_products();
            wait_products<0>();
            keep_in_order(sums);
#pragma unroll
            for (int n = 0; n < S::kSums; ++n) total[n] = __fadd_rn(total[n], sums[n]);
            keep_in_order(sums);
            adds = 0;
            while (slice_end <= step + s) slice_end = slice_begin(steps, ++slice);  // also passes slices without a step
            begin_products();
          }
          const unsigned char* const rows = at + kStageWeights + s * S::kStepBytes;
          multiply_async(sums, weights[u][2 * s], plain_operand(rows, kRows * 16, 128), adds);
          multiply_async(sums, weights[u][2 * s + 1], plain_operand(rows + kRows * 32, kRows * 16, 128), 1);
          adds = 1;
        }
        commit_products();
        wait_products<1>();  // those of the stage before are done
#pragma unroll
        for (int p = 0; p < 2 * kStageSteps; ++p) keep_in_order(weights[1 - u][p]);
        if (step > begin && lane == 0) arrive(empty + (i - 1) % S::kStages);
        ++i;
      }
    }
    wait_products<0>();
    keep_in_order(sums);
    if (begin == end) return;
    if (lane == 0) arrive(empty + (i - 1) % S::kStages);
#pragma unroll
    for (int n = 0; n < S::kSums; ++n) total[n] = __fadd_rn(total[n], sums[n]);
  }

  // The sums of the other block's half of the rows go there, its sums of this one's meet those here. turn: tiles before.
  __device__ void finish_tile(const LinearTask& t, const ProductAfter& after, const Tile& tile, int turn,
                              const float (&total)[S::kSums]) const {
    const int other = 1 - half, thread = static_cast<int>(threadIdx.x);
    float4* const mine = exchange + thread / 32 * 32 + thread % 4 * 8 + thread / 4 % 8;
    const uint32_t there = address_in_block(mine, other), given_there = address_in_block(given, other);
    if (thread == 0) arrive_expecting(given, S::kExchangeBytes);
    wait_phase(taken, (turn + 1) % 2);
    const auto part = [&](int i, bool first) { return first ? total[i] : total[S::kShare + i]; };
#pragma unroll
    for (int i = 0; i < S::kShare; i += 4) {
      const bool first = half != 0;
      const float4 sums = make_float4(part(i, first), part(i + 1, first), part(i + 2, first), part(i + 3, first));
      send_to_block(there + static_cast<uint32_t>(i / 4 * kMultiplying * sizeof(float4)), sums, given_there);
    }
    wait_phase(given, turn % 2);
#pragma unroll
    for (int i = 0; i < S::kShare; i += 4) {
      const bool first = half == 0;
      float4& sums = mine[i / 4 * kMultiplying];
      sums = make_float4(__fadd_rn(part(i, first), sums.x), __fadd_rn(part(i + 1, first), sums.y), __fadd_rn(part(i + 2, first), sums.z),
                         __fadd_rn(part(i + 3, first), sums.w));
    }
    sync_some<kMultiplying>();
    if (after.in_pairs()) {
      store_pairs(t, after, tile);
    } else {
      store(t, tile);
    }
    arrive_in_block(address_in_block(taken, other));
  }

  // A sum that has met its other half: feature of the tile, row of this block's half.
  __device__ float sum_of(int feature, int row) const {
    const int at = row / 8 * kMultiplying + feature / 16 * 32 + row % 8 / 2 * 8 + feature % 8;
    return reinterpret_cast<const float*>(exchange + at)[feature % 16 / 8 * 2 + row % 2];
  }

  // As y lies, a thread one feature.
  __device__ void store(const LinearTask& t, const Tile& tile) const {
    const int feature = static_cast<int>(threadIdx.x) % kBlockFeatures, n = tile.first * kTileFeatures + feature;
    if (feature >= tile.features * kTileFeatures || n >= t.columns) return;
    const float bias = t.bias[n];
    constexpr int kAtOnce = 8, kBeside = kMultiplying / kBlockFeatures;
    static_assert(kRows / kHalves % (kAtOnce * kBeside) == 0);
    for (int first = static_cast<int>(threadIdx.x) / kBlockFeatures; first < kRows / kHalves; first += kAtOnce * kBeside) {
      const int64_t m = first_row(tile) + first;
      float befores[kAtOnce];  // asked for together: behind a store of the one before, each would be waited for
#pragma unroll
      for (int r = 0; r < kAtOnce; ++r) befores[r] = m + r * kBeside < t.rows ? before(t, m + r * kBeside, n) : 0.0f;
#pragma unroll
      for (int r = 0; r < kAtOnce; ++r) {
        if (m + r * kBeside < t.rows) finish(t, m + r * kBeside, n, sum_of(feature, first + r * kBeside), bias, befores[r]);
      }
    }
  }

  // A thread one pair of features.
  __device__ void store_pairs(const LinearTask& t, const ProductAfter& after, const Tile& tile) const {
    constexpr int kMostPairs = kBlockFeatures / 2, kBeside = kMultiplying / kMostPairs;
    const int pair = static_cast<int>(threadIdx.x) % kMostPairs, pairs = tile.features * kTileFeatures / 2;
    const int n = feature_tile_of(after, tile, pair / kTileFeatures) * kTileFeatures + pair % kTileFeatures;
    if (pair >= pairs || n >= t.columns) return;
#pragma unroll 2
    for (int row = static_cast<int>(threadIdx.x) / kMostPairs; row < kRows / kHalves; row += kBeside) {
      const int64_t m = first_row(tile) + row;
      if (m < t.rows) finish_pair(t, after, m, n, sum_of(pair, row), sum_of(pair + pairs, row));
    }
  }

  __device__ int64_t first_row(const Tile& tile) const { return static_cast<int64_t>(tile.rows) * kRows + half * (kRows / kHalves); }

  __device__ static int first_tile() { return static_cast<int>(blockIdx.x) / kHalves; }
  __device__ static int tile_step() { return static_cast<int>(gridDim.x) / kHalves; }
};

template <int kRows>
__global__ void __launch_bounds__(kThreads, 1) wide_kernel(LinearTask t, ProductAfter after, const unsigned char* rows, Tiles tiles) {
  using S = Shape<kRows>;
  extern __shared__ __align__(1024) unsigned char stages[];
  __shared__ __align__(8) uint64_t barriers[2 * S::kStages + 2];
  const int half = static_cast<int>(blockIdx.x) % kHalves, steps = t.depth / kStepDepth;
  const Block<kRows> block{stages,
                           reinterpret_cast<float4*>(stages + S::kStages * S::kStageBytes),
                           barriers,
                           barriers + S::kStages,
                           barriers + 2 * S::kStages,
                           barriers + 2 * S::kStages + 1,
                           half,
                           slice_begin(steps, half * kSlicesOfHalf),
                           slice_begin(steps, (half + 1) * kSlicesOfHalf),
                           steps};
  if (threadIdx.x == 0) {
    for (int i = 0; i < S::kStages; ++i) {
      init_barrier(block.full + i, kAsking);
      init_barrier(block.empty + i, kMultiplying / 32);
    }
    init_barrier(block.given, 1);
    init_barrier(block.taken, kMultiplying);
    publish_barriers();
  }
  sync_cluster();
  if (threadIdx.x >= kMultiplying) {
    leave_registers<kFewRegisters>();
    const int asking = (static_cast<int>(threadIdx.x) - kMultiplying) / 32;
    if (asking == kAskingWeights) wait_for_predecessor();
    if (threadIdx.x % 32 == 0) block.ask(asking, t, after, rows, tiles);
    __syncwarp();
    wait_for_predecessor();
    sync_cluster();
  } else {
    take_registers<kRegisters>();
    wait_for_predecessor();
    let_successor_begin();
    int i = 0, turn = 0;
    for (int at = block.first_tile(); at < tiles.count; at += block.tile_step(), ++turn) {
      float total[S::kSums] = {};
      block.multiply(i, total);
      block.finish_tile(t, after, tile_of(tiles, at), turn, total);
    }
    sync_cluster();  // nobody ends while the other writes or arrives here
  }
}

// Where all rows are in one tile, the tiles of a last round that would leave half of the clusters without one are halved.
Tiles tiles_of(const LinearTask& t, int tile_rows, int clusters) {
  Tiles tiles{};
  tiles.rows = static_cast<int>(ceil_div(t.rows, tile_rows));
  tiles.whole = tiles.count = static_cast<int>(ceil_div(t.columns, kBlockFeatures)) * tiles.rows;
  const int left = tiles.count % clusters;
  if (tiles.rows == 1 && 2 * left <= clusters) {
    tiles.whole -= left;
    tiles.count += left;
  }
  return tiles;
}

template <int kRows>
void launch(const LinearTask& t, const ProductAfter& after, const void* rows, int multiprocessors, const Stream& stream) {
  using S = Shape<kRows>;
  const Tiles tiles = tiles_of(t, kRows, multiprocessors / kHalves);
  const auto kernel = wide_kernel<kRows>;
  allow_shared_memory(kernel, S::kSharedBytes);
  LaunchShape shape{static_cast<unsigned>(std::min(tiles.count, multiprocessors / kHalves) * kHalves), kThreads, S::kSharedBytes};
  shape.cluster = kHalves;
  launch_dependent(stream, shape, "linear", kernel, t, after, static_cast<const unsigned char*>(rows), tiles);
}

}  // namespace

void launch_linear_wide(const LinearTask& t, const ProductAfter& after, int multiprocessors, int64_t row_bytes, Workspace& workspace,
                        const Stream& stream) {
  const int64_t rows_at_once = std::max<int64_t>(row_bytes / (t.depth * 2) / kMostTileRows, 1) * kMostTileRows;
  const int steps = t.depth / kStepDepth;
  for (int64_t first = 0; first < t.rows; first += rows_at_once) {
    const LinearTask part = rows_of(t, first, std::min(rows_at_once, t.rows - first));
    const int tile_rows = wide_tile_rows(part.rows);
    const int64_t padded = round_up(part.rows, tile_rows);
    auto* const rows = workspace.get<uint4>(padded * t.depth / 8);
    launch_dependent(stream, {blocks_for(padded * steps)}, "linear", arrange_rows_kernel, static_cast<const bf16*>(part.x), part.x_stride,
                     static_cast<int>(part.rows), tile_rows, steps, rows);
    switch (tile_rows) {
      case 64:
        launch<64>(part, after, rows, multiprocessors, stream);
        break;
      case 96:
        launch<96>(part, after, rows, multiprocessors, stream);
        break;
      case 128:
        launch<128>(part, after, rows, multiprocessors, stream);
        break;
      default:
        launch<160>(part, after, rows, multiprocessors, stream);
        break;
    }
  }
}

}  // namespace ardiff::cuda
