// Linear layers of more than 32 rows in bf16 on compute capability 9.0a. Weights, in the layout that linear_few.cu reads, and up to 160
// rows, which a kernel in front puts in order (arrange_rows_kernel), come to shared memory as whole pieces, several stages ahead; weights
// are the left operand of warpgroup products, by way of registers, and are read once for all rows of a tile.
//
// A block has 128 features, 64 for each of two warpgroups, and one half of the depth; the two blocks of a cluster have the halves and
// exchange their sums (wide_finish.cuh). They stay for all of their tiles, so that a tile's first pieces come while the last one is
// finished. Sums of a result are those of linear_few.cu in the same order, and the same bits (docs/cuda.md).
//
// Pairs (product_after.cuh): the first half of a tile's features goes with the second, 64 of gate with 64 of up, or the halves of a head.
#include <algorithm>

#include "backend/cuda/bulk_copy.cuh"
#include "backend/cuda/launch.cuh"
#include "backend/cuda/linear.cuh"
#include "backend/cuda/memory.h"
#include "backend/cuda/product_after.cuh"
#include "backend/cuda/weight_layout.cuh"
#include "backend/cuda/wide_finish.cuh"
#include "backend/cuda/wide_rows.h"
#include "backend/cuda/wide_tiles.cuh"

namespace ardiff::cuda {
namespace {

using namespace wide;

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

template <typename S>
struct Block {
  static constexpr int kRows = S::kRows;
  unsigned char* stages;
  uint64_t *full, *empty;       // kStages of each: a stage's pieces are there; all warps, of neighbours too, are done with them
  int half, begin, end, steps;  // steps of this half of the depth; all

  // One thread of each of kAsking warps: the pieces of every tile, stage by stage, the last thread the rows and the others the weights,
  // which do not wait for the kernel in front.
  __device__ void ask(int asking, const LinearTask& t, const ProductAfter& after, const unsigned char* rows, const Tiles& tiles) const {
    const int feature_tiles = (t.columns + kTileFeatures - 1) / kTileFeatures;
    int i = 0;
    for (int at = Place<S>::first_tile(); at < tiles.count; at += Place<S>::tile_step()) {
      const Tile tile = Place<S>::tile(tiles, at);
      const auto* const rows_at = rows + static_cast<int64_t>(tile.rows) * steps * S::kStepBytes;
      const int own = asking < kAskingWeights ? (tile.features - asking + kAskingWeights - 1) / kAskingWeights : 0;
      for (int step = begin; step < end; step += kStageSteps, ++i) {
        const int stage = i % S::kStages;
        wait_phase(empty + stage, (i / S::kStages + 1) % 2);
        const auto count = static_cast<uint32_t>(min(kStageSteps, end - step));
        unsigned char* const to = stages + stage * S::kStageBytes;
        arrive_expecting(full + stage, count * (own == 0 ? S::kStepBytes : own * kTileBytes));
        if (own == 0) copy_rows(to + kStageWeights, rows_at + static_cast<int64_t>(step) * S::kStepBytes, count, full + stage);
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

  // Rows of `count` steps, of which each neighbour asks for its part, for all of them.
  __device__ static void copy_rows(unsigned char* to, const unsigned char* from, uint32_t count, uint64_t* barrier) {
    if constexpr (S::kBeside == 1) {
      copy_bulk(to, from, count * S::kStepBytes, barrier);
    } else {
      static_assert(S::kStepBytes % (S::kBeside * 16) == 0);
      const uint32_t part = count * (S::kStepBytes / S::kBeside), first = part * static_cast<uint32_t>(Place<S>::neighbour());
      uint32_t blocks = 0;
      for (int i = 0; i < S::kBeside; ++i) blocks |= 1u << Place<S>::rank_of_neighbour(i);
      copy_bulk_to_blocks(to + first, from + first, part, barrier, static_cast<uint16_t>(blocks));
    }
  }

  // A warp is done with a stage.
  __device__ void give_back(int stage) const {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    uint64_t* const barrier = empty + stage % S::kStages;
    if constexpr (S::kBeside == 1) {
      if (lane == 0) arrive(barrier);
    } else {
      if (lane < S::kBeside) arrive_in_block(address_in_block(barrier, Place<S>::rank_of_neighbour(lane)));
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
        if (step > begin) give_back(i - 1);
        ++i;
      }
    }
    wait_products<0>();
    keep_in_order(sums);
    if (begin == end) return;
    give_back(i - 1);
#pragma unroll
    for (int n = 0; n < S::kSums; ++n) total[n] = __fadd_rn(total[n], sums[n]);
  }
};

template <typename S>
__global__ void __launch_bounds__(S::kThreads, 1) wide_kernel(LinearTask t, ProductAfter after, const unsigned char* rows, Tiles tiles) {
  extern __shared__ __align__(1024) unsigned char stages[];
  __shared__ __align__(8) uint64_t barriers[2 * S::kStages + 4];
  uint64_t* const of_sums = barriers + 2 * S::kStages;
  const int half = Place<S>::half(), steps = t.depth / kStepDepth;
  const Block<S> block{stages,
                       barriers,
                       barriers + S::kStages,
                       half,
                       slice_begin(steps, half * kSlicesOfHalf),
                       slice_begin(steps, (half + 1) * kSlicesOfHalf),
                       steps};
  const Finish<S> sums{
      reinterpret_cast<float4*>(stages + S::kStages * S::kStageBytes), of_sums, of_sums + 1, of_sums + 2, of_sums + 3, half};
  if (threadIdx.x == 0) {
    for (int i = 0; i < S::kStages; ++i) {
      init_barrier(block.full + i, kAsking);
      init_barrier(block.empty + i, kMultiplying / 32 * S::kBeside);
    }
    sums.init();
    publish_barriers();
  }
  sync_cluster();
  const int thread = static_cast<int>(threadIdx.x);
  if (thread < kMultiplying) {
    take_registers<S::kRegisters>();
    wait_for_predecessor();
    let_successor_begin();
    int i = 0, turn = 0;
    for (int at = Place<S>::first_tile(); at < tiles.count; at += Place<S>::tile_step(), ++turn) {
      float total[S::kSums] = {};
      block.multiply(i, total);
      sums.hand_over(turn, total);
      if constexpr (!S::kStorers) sums.store_tile(t, after, Place<S>::tile(tiles, at), turn, thread);
    }
    sync_cluster();  // nobody ends while the other block writes or arrives here
  } else if (thread < kMultiplying + kAsking * 32) {
    leave_registers<S::kAskRegisters>();
    const int asking = (thread - kMultiplying) / 32;
    if (asking == kAskingWeights) wait_for_predecessor();
    if (thread % 32 == 0) block.ask(asking, t, after, rows, tiles);
    __syncwarp();
    wait_for_predecessor();
    sync_cluster();
  } else {
    leave_registers<S::kStoreRegisters>();
    wait_for_predecessor();
    int turn = 0;
    for (int at = Place<S>::first_tile(); at < tiles.count; at += Place<S>::tile_step(), ++turn)
      sums.store_tile(t, after, Place<S>::tile(tiles, at), turn, thread - kMultiplying - kAsking * 32);
    sync_cluster();
  }
}

// Where all rows are in one tile, the tiles of a last round that would leave half of the clusters without one are halved.
Tiles tiles_of(const LinearTask& t, int tile_rows, int neighbours, int clusters) {
  Tiles tiles{};
  tiles.rows = static_cast<int>(ceil_div(t.rows, tile_rows));
  tiles.whole = tiles.count = static_cast<int>(ceil_div(t.columns, kBlockFeatures * neighbours)) * tiles.rows;
  const int left = tiles.count % clusters;
  if (tiles.rows == 1 && 2 * left <= clusters) {
    tiles.whole -= left;
    tiles.count += left;
  }
  return tiles;
}

template <typename S>
void launch(const LinearTask& t, const ProductAfter& after, const void* rows, const WideDevice& device, const Stream& stream) {
  const auto kernel = wide_kernel<S>;
  allow_shared_memory(kernel, S::kSharedBytes);
  LaunchShape shape{0, S::kThreads, S::kSharedBytes};
  shape.cluster = S::kCluster;
  const int clusters = S::kCluster == kHalves ? device.multiprocessors / kHalves : clusters_at_once(kernel, shape, device.multiprocessors);
  const Tiles tiles = tiles_of(t, S::kRows, S::kBeside, clusters);
  shape.grid = static_cast<unsigned>(std::min(tiles.count, clusters) * S::kCluster);
  launch_dependent(stream, shape, "linear", kernel, t, after, static_cast<const unsigned char*>(rows), tiles);
}

template <bool kStorers, int kBeside>
void launch_tiles(int tile_rows, const LinearTask& t, const ProductAfter& after, const void* rows, const WideDevice& device,
                  const Stream& stream) {
  switch (tile_rows) {
    case 64:
      return launch<Shape<64, kStorers, 1>>(t, after, rows, device, stream);
    case 96:
      return launch<Shape<96, kStorers, 1>>(t, after, rows, device, stream);
    case 128:
      return launch<Shape<128, kStorers, kBeside>>(t, after, rows, device, stream);
    default:
      return launch<Shape<160, kStorers, kBeside>>(t, after, rows, device, stream);
  }
}

}  // namespace

void launch_linear_wide(const LinearTask& t, const ProductAfter& after, const WideDevice& device, int64_t row_bytes, Workspace& workspace,
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
    const auto launch_part = device.shared_rows ? (device.storers ? launch_tiles<true, 2> : launch_tiles<false, 2>)
                                                : (device.storers ? launch_tiles<true, 1> : launch_tiles<false, 1>);
    launch_part(tile_rows, part, after, rows, device, stream);
  }
}

}  // namespace ardiff::cuda
