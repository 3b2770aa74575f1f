// Linear layers of more than 32 rows in bf16 on compute capability 9.0a. Weights, in the layout that linear_few.cu reads, and up to 160
// rows, which a kernel in front puts in order (arrange_rows_kernel), come to shared memory as whole pieces, several stages ahead; weights
// are the left operand of warpgroup products, by way of registers, and are read once for all rows of a tile.
//
// A block has 128 features, 64 for each of two warpgroups, and one half of the depth; the two blocks of a cluster have the halves and
// exchange their sums. They stay for all of their tiles, so that a tile's first pieces come while the last one is finished. Sums of a
// result are those of linear_few.cu in the same order, and the same bits (docs/cuda.md).
#include <algorithm>

#include "backend/cuda/bulk_copy.cuh"
#include "backend/cuda/linear.cuh"
#include "backend/cuda/memory.h"
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
__global__ void arrange_rows_kernel(const bf16* x, int64_t stride, int64_t rows, int tile_rows, int steps, uint4* to) {
  const int64_t tiles = (rows + tile_rows - 1) / tile_rows;
  for (int64_t i = first_item(); i < tiles * steps * tile_rows; i += item_step()) {
    const int64_t at = i / tile_rows, m = at / steps * tile_rows + i % tile_rows;
    const auto* from = reinterpret_cast<const uint4*>(x + m * stride) + at % steps * 4;
    uint4 in[4];
#pragma unroll
    for (int t = 0; t < 4; ++t) in[t] = m < rows ? from[t] : make_uint4(0, 0, 0, 0);
    uint4* out = to + at * 4 * tile_rows + i % tile_rows;
    out[0] = make_uint4(in[0].x, in[1].x, in[2].x, in[3].x);
    out[tile_rows] = make_uint4(in[0].y, in[1].y, in[2].y, in[3].y);
    out[2 * tile_rows] = make_uint4(in[0].z, in[1].z, in[2].z, in[3].z);
    out[3 * tile_rows] = make_uint4(in[0].w, in[1].w, in[2].w, in[3].w);
  }
}

// Tiles of results, kBlockFeatures by rows of a tile, those of the same features one after the other.
struct Tiles {
  int rows, count;  // tiles of rows; all
};

template <int kRows>
struct Block {
  using S = Shape<kRows>;
  unsigned char* stages;
  float* exchange;              // (kShare, kMultiplying), written by the other block
  uint64_t *full, *empty;       // kStages of each: a stage's pieces are there; all warps are done with them
  uint64_t *given, *taken;      // the other block's sums are in exchange; the other has read its own
  int half, begin, end, steps;  // steps of this half of the depth; all

  // One thread of each of kAsking warps: the pieces of every tile, stage by stage, each thread two feature tiles' and the first the rows
  // as well. Whether one thread would do was not measured apart from other changes.
  __device__ void ask(int asking, const LinearTask& t, const unsigned char* rows, const Tiles& tiles) const {
    const int feature_tiles = (t.columns + kTileFeatures - 1) / kTileFeatures;
    int i = 0;
    for (int tile = first_tile(); tile < tiles.count; tile += tile_step()) {
      const auto* const rows_at = rows + static_cast<int64_t>(tile % tiles.rows) * steps * S::kStepBytes;
      const int first = tile / tiles.rows * kBlockTiles;
      for (int step = begin; step < end; step += kStageSteps, ++i) {
        const int stage = i % S::kStages;
        wait_phase(empty + stage, (i / S::kStages + 1) % 2);
        const auto count = static_cast<uint32_t>(min(kStageSteps, end - step));
        arrive_expecting(full + stage, count * (kBlockTiles / kAsking * kTileBytes + (asking == 0 ? S::kStepBytes : 0)));
        unsigned char* const to = stages + stage * S::kStageBytes;
        for (int f = asking; f < kBlockTiles; f += kAsking) {
          // A tile that is not there: the first one, and nobody stores what comes of it.
          const int feature_tile = first + f < feature_tiles ? first + f : 0;
          copy_bulk(to + f * kStageSteps * kTileBytes,
                    static_cast<const unsigned char*>(t.weight) + (static_cast<int64_t>(feature_tile) * steps + step) * kTileBytes,
                    count * kTileBytes, full + stage);
        }
        if (asking == 0)
          copy_bulk(to + kStageWeights, rows_at + static_cast<int64_t>(step) * S::kStepBytes, count * S::kStepBytes, full + stage);
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

  // The sums of the other block's half of the rows go there, its sums of this one's meet those here. first_feature, first_row: of the tile.
  // turn: tiles before.
  __device__ void finish_tile(const LinearTask& t, int first_feature, int64_t first_row, int turn, const float (&total)[S::kSums]) const {
    const int other = 1 - half;
    const uint32_t there = address_in_block(exchange + threadIdx.x, other);
    wait_phase_of_cluster(taken, (turn + 1) % 2);
#pragma unroll
    for (int i = 0; i < S::kShare; ++i) write_to_block(there + i * kMultiplying * 4, half == 0 ? total[S::kShare + i] : total[i]);
    arrive_in_block(address_in_block(given, other));
    wait_phase_of_cluster(given, turn % 2);
#pragma unroll
    for (int i = 0; i < S::kShare; ++i) {
      float& sum = exchange[i * kMultiplying + static_cast<int>(threadIdx.x)];
      sum = __fadd_rn(half == 0 ? total[i] : total[S::kShare + i], sum);
    }
    sync_some<kMultiplying>();
    // Now as y lies, a thread one feature.
    const int feature = static_cast<int>(threadIdx.x) % kBlockFeatures, n = first_feature + feature;
    const float bias = n < t.columns ? t.bias[n] : 0.0f;
    constexpr int kAtOnce = 8, kBeside = kMultiplying / kBlockFeatures;
    static_assert(kRows / kHalves % (kAtOnce * kBeside) == 0);
    for (int first = static_cast<int>(threadIdx.x) / kBlockFeatures; first < kRows / kHalves; first += kAtOnce * kBeside) {
      const int64_t m = first_row + half * (kRows / kHalves) + first;
      float befores[kAtOnce];  // asked for together: behind a store of the one before, each would be waited for
#pragma unroll
      for (int r = 0; r < kAtOnce; ++r) befores[r] = n < t.columns && m + r * kBeside < t.rows ? before(t, m + r * kBeside, n) : 0.0f;
#pragma unroll
      for (int r = 0; r < kAtOnce; ++r) {
        const int row = first + r * kBeside;
        const int i = row / 8 * 4 + feature % 16 / 8 * 2 + row % 2, thread = feature / 16 * 32 + feature % 8 * 4 + row % 8 / 2;
        if (n < t.columns && m + r * kBeside < t.rows) finish(t, m + r * kBeside, n, exchange[i * kMultiplying + thread], bias, befores[r]);
      }
    }
    arrive_in_block(address_in_block(taken, other));
  }

  __device__ static int first_tile() { return static_cast<int>(blockIdx.x) / kHalves; }
  __device__ static int tile_step() { return static_cast<int>(gridDim.x) / kHalves; }
};

template <int kRows>
__global__ void __launch_bounds__(kThreads, 1) wide_kernel(LinearTask t, const unsigned char* rows, Tiles tiles) {
  using S = Shape<kRows>;
  extern __shared__ __align__(1024) unsigned char stages[];
  __shared__ __align__(8) uint64_t barriers[2 * S::kStages + 2];
  const int half = static_cast<int>(blockIdx.x) % kHalves, steps = t.depth / kStepDepth;
  const Block<kRows> block{stages,
                           reinterpret_cast<float*>(stages + S::kStages * S::kStageBytes),
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
    init_barrier(block.given, kMultiplying);
    init_barrier(block.taken, kMultiplying);
    publish_barriers();
  }
  sync_cluster();
  if (threadIdx.x >= kMultiplying) {
    leave_registers<kFewRegisters>();
    if (threadIdx.x % 32 == 0) block.ask((static_cast<int>(threadIdx.x) - kMultiplying) / 32, t, rows, tiles);
    __syncwarp();
    sync_cluster();
  } else {
    take_registers<kRegisters>();
    int i = 0, turn = 0;
    for (int tile = block.first_tile(); tile < tiles.count; tile += block.tile_step(), ++turn) {
      float total[S::kSums] = {};
      block.multiply(i, total);
      block.finish_tile(t, tile / tiles.rows * kBlockFeatures, static_cast<int64_t>(tile % tiles.rows) * kRows, turn, total);
    }
    sync_cluster();  // nobody ends while the other writes or arrives here
  }
}

template <int kRows>
void launch(const LinearTask& t, const void* rows, int multiprocessors, cudaStream_t stream) {
  using S = Shape<kRows>;
  Tiles tiles{};
  tiles.rows = static_cast<int>(ceil_div(t.rows, kRows));
  tiles.count = static_cast<int>(ceil_div(t.columns, kBlockFeatures)) * tiles.rows;
  const auto kernel = wide_kernel<kRows>;
  allow_shared_memory(kernel, S::kSharedBytes);
  cudaLaunchAttribute cluster{};
  cluster.id = cudaLaunchAttributeClusterDimension;
  cluster.val.clusterDim.x = kHalves;
  cluster.val.clusterDim.y = cluster.val.clusterDim.z = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = static_cast<unsigned>(std::min(tiles.count, multiprocessors / kHalves) * kHalves);
  config.blockDim = kThreads;
  config.dynamicSmemBytes = S::kSharedBytes;
  config.stream = stream;
  config.attrs = &cluster;
  config.numAttrs = 1;
  (void)cudaLaunchKernelEx(&config, kernel, t, static_cast<const unsigned char*>(rows), tiles);  // the last error, too
  check_launch("linear");
}

}  // namespace

void launch_linear_wide(const LinearTask& t, int multiprocessors, int64_t row_bytes, Workspace& workspace, cudaStream_t stream) {
  const int64_t rows_at_once = std::max<int64_t>(row_bytes / (t.depth * 2) / kMostTileRows, 1) * kMostTileRows;
  const int steps = t.depth / kStepDepth;
  for (int64_t first = 0; first < t.rows; first += rows_at_once) {
    const LinearTask part = rows_of(t, first, std::min(rows_at_once, t.rows - first));
    const int tile_rows = wide_tile_rows(part.rows);
    const int64_t padded = round_up(part.rows, tile_rows);
    auto* const rows = workspace.get<uint4>(padded * t.depth / 8);
    arrange_rows_kernel<<<blocks_for(padded * steps), kBlock, 0, stream>>>(static_cast<const bf16*>(part.x), part.x_stride, part.rows,
                                                                           tile_rows, steps, rows);
    check_launch("linear");
    switch (tile_rows) {
      case 64:
        launch<64>(part, rows, multiprocessors, stream);
        break;
      case 96:
        launch<96>(part, rows, multiprocessors, stream);
        break;
      case 128:
        launch<128>(part, rows, multiprocessors, stream);
        break;
      default:
        launch<160>(part, rows, multiprocessors, stream);
        break;
    }
  }
}

}  // namespace ardiff::cuda
