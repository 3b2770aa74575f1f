// Linear layers of more than 32 rows in bf16 on compute capability 9.0a. Weights are the left operand: they go from memory to registers
// some steps ahead, in the layout that linear_few.cu reads, and are multiplied by up to 160 rows at once in shared memory, so that
// weights are read once for all of them. The rows are put in order by a kernel in front (arrange_rows_kernel), so that they arrive as
// whole pieces.
//
// A block has 128 features, 64 for each of its two warpgroups, and one half of the depth; the two blocks of a cluster have the halves and
// exchange their sums. Sums of a result are those of linear_few.cu in the same order, and the same bits (docs/cuda.md).
#include <algorithm>

#include "backend/cuda/bulk_copy.cuh"
#include "backend/cuda/linear.cuh"
#include "backend/cuda/memory.h"
#include "backend/cuda/weight_layout.cuh"
#include "backend/cuda/wide_rows.h"

namespace ardiff::cuda {
namespace {

constexpr int kGroups = 2;                       // warpgroups that multiply
constexpr int kGroupFeatures = 64;
constexpr int kBlockFeatures = kGroups * kGroupFeatures;
constexpr int kMultiplying = kGroups * 128;      // threads
constexpr int kThreads = kMultiplying + 128;     // one thread of the last warpgroup asks for the rows; registers are given by warpgroups
constexpr int kRegisters = 240, kFewRegisters = 24;
constexpr int kHalves = 2;
constexpr int kStages = 6;
constexpr int kStageSteps = 2;

// kRows of a tile; kAhead steps of weights in flight, even.
template <int kRows, int kAhead>
struct Shape {
  static constexpr int kSums = kRows / 2;  // of a thread
  static constexpr int kStepPieces = kRows * kStepDepth / 8;
  static constexpr int kStageBytes = kStageSteps * kStepPieces * 16;
  static constexpr int kSharedBytes = kStages * kStageBytes;
  static_assert(kAhead % kStageSteps == 0 && kSums / 2 * kMultiplying * 4 <= kSharedBytes);
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

template <int kRows, int kAhead>
struct Block {
  using S = Shape<kRows, kAhead>;
  unsigned char* stages;
  uint64_t *full, *empty;  // kStages of each: the rows of a stage are there; all warps are done with them
  int begin, end;          // steps of this half

  // One thread: the rows of this half, stage by stage.
  __device__ void ask_for_rows(const uint4* rows) const {
    for (int step = begin, i = 0; step < end; step += kStageSteps, ++i) {
      const int stage = i % kStages;
      wait_phase(empty + stage, (i / kStages + 1) % 2);
      const auto bytes = static_cast<uint32_t>(min(kStageSteps, end - step) * S::kStepPieces * 16);
      arrive_expecting(full + stage, bytes);
      copy_bulk(stages + stage * S::kStageBytes, rows + static_cast<int64_t>(step) * S::kStepPieces, bytes, full + stage);
    }
  }

  // total: the slices of this half in order. weights: this lane's of the warp's tile, at step 0.
  __device__ void multiply(const uint4* weights, int steps, int first_slice, float (&total)[S::kSums]) const {
    const auto load = [&](int step, uint4 (&to)[2]) {
      to[0] = __ldg(weights + static_cast<int64_t>(step) * 64);
      to[1] = __ldg(weights + static_cast<int64_t>(step) * 64 + 32);
    };
    uint4 ahead[kAhead][2];
#pragma unroll
    for (int i = 0; i < kAhead - 1; ++i) {
      if (begin + i < end) load(begin + i, ahead[i]);
    }
    float sums[S::kSums] = {};
    int slice = first_slice, slice_end = begin, adds = 0;
    while (slice_end <= begin && slice < first_slice + kSlicesOfHalf) slice_end = slice_begin(steps, ++slice);
    for (int first = begin; first < end; first += kAhead) {
#pragma unroll
      for (int i = 0; i < kAhead; ++i) {
        const int step = first + i;
        if (step >= end) break;
        const int stage_at = (step - begin) / kStageSteps, stage = stage_at % kStages;
        if (i % kStageSteps == 0) wait_phase(full + stage, stage_at / kStages % 2);
        if (step == slice_end) {
          wait_products<0>();
          keep_in_order(sums);
#pragma unroll
          for (int s = 0; s < S::kSums; ++s) total[s] = __fadd_rn(total[s], sums[s]);
          keep_in_order(sums);
          adds = 0;
          while (slice_end <= step) slice_end = slice_begin(steps, ++slice);  // also passes slices without a step
        }
        const unsigned char* rows = stages + stage * S::kStageBytes + i % kStageSteps * S::kStepPieces * 16;
        keep_in_order(ahead[i][0]);
        keep_in_order(ahead[i][1]);
        begin_products();
        multiply_async(sums, ahead[i][0], plain_operand(rows, kRows * 16, 128), adds);
        multiply_async(sums, ahead[i][1], plain_operand(rows + kRows * 32, kRows * 16, 128), 1);
        commit_products();
        adds = 1;
        wait_products<1>();  // the step before is done: its weights' registers are free and, with it, perhaps its stage
        constexpr int kLast = kAhead - 1;
        const int before = (i + kLast) % kAhead;
        keep_in_order(ahead[before][0]);
        keep_in_order(ahead[before][1]);
        if (i % kStageSteps == 0 && step > begin && threadIdx.x % 32 == 0) arrive(empty + (stage_at - 1) % kStages);
        if (step + kLast < end) load(step + kLast, ahead[before]);
      }
    }
    wait_products<0>();
    keep_in_order(sums);
    if (begin < end) {
#pragma unroll
      for (int s = 0; s < S::kSums; ++s) total[s] = __fadd_rn(total[s], sums[s]);
    }
  }
};

template <int kRows, int kAhead>
__global__ void __launch_bounds__(kThreads, 1) wide_kernel(LinearTask t, const uint4* rows, int row_tiles) {
  using S = Shape<kRows, kAhead>;
  extern __shared__ __align__(1024) unsigned char stages[];
  __shared__ __align__(8) uint64_t barriers[2 * kStages];
  const int half = static_cast<int>(blockIdx.x) % kHalves, row_tile = static_cast<int>(blockIdx.x) / kHalves % row_tiles;
  const int first_feature = static_cast<int>(blockIdx.x) / kHalves / row_tiles * kBlockFeatures;
  const int steps = t.depth / kStepDepth, first_slice = half * kSlicesOfHalf;
  const Block<kRows, kAhead> block{stages, barriers, barriers + kStages, slice_begin(steps, first_slice), slice_begin(steps, first_slice + kSlicesOfHalf)};
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  if (threadIdx.x == 0) {
    for (int i = 0; i < kStages; ++i) {
      init_barrier(block.full + i, 1);
      init_barrier(block.empty + i, kMultiplying / 32);
    }
    publish_barriers();
  }
  __syncthreads();

  if (warp >= kMultiplying / 32) {
    leave_registers<kFewRegisters>();
    if (threadIdx.x == kMultiplying) block.ask_for_rows(rows + static_cast<int64_t>(row_tile) * steps * S::kStepPieces);
    __syncwarp();
    sync_cluster();
    sync_cluster();
  } else {
    take_registers<kRegisters>();
    float total[S::kSums] = {};
    // A tile that is not there: the first one's, and nobody stores what comes of it.
    const int warp_feature = first_feature + warp * kTileFeatures;
    const int64_t tile = warp_feature < t.columns ? warp_feature / kTileFeatures : 0;
    block.multiply(static_cast<const uint4*>(t.weight) + tile * steps * 64 + lane, steps, first_slice, total);
    sync_some<kMultiplying>();  // the other warpgroup, too, is done with the stages
    float* const exchange = reinterpret_cast<float*>(stages) + threadIdx.x;
    constexpr int kShare = S::kSums / 2;  // sums that this block finishes, and that it sends
#pragma unroll
    for (int i = 0; i < kShare; ++i) exchange[i * kMultiplying] = half == 0 ? total[kShare + i] : total[i];
    sync_cluster();
#pragma unroll
    for (int i = 0; i < kShare; ++i) {
      const float other = read_of_block(exchange + i * kMultiplying, 1 - half);
      const float sum = __fadd_rn(half == 0 ? total[i] : total[kShare + i], other);
      const int at = half * kShare + i, e = at % 4;
      const int n = warp_feature + lane / 4 + e / 2 * 8;
      const int64_t m = static_cast<int64_t>(row_tile) * kRows + at / 4 * 8 + lane % 4 * 2 + e % 2;
      if (m < t.rows && n < t.columns) finish(t, m, n, sum);
    }
    sync_cluster();  // nobody ends while the other reads
  }
}

template <int kRows, int kAhead>
void launch(const LinearTask& t, const uint4* rows, cudaStream_t stream) {
  using S = Shape<kRows, kAhead>;
  const auto row_tiles = static_cast<int>(ceil_div(t.rows, kRows));
  const auto kernel = wide_kernel<kRows, kAhead>;
  allow_shared_memory(kernel, S::kSharedBytes);
  cudaLaunchAttribute cluster{};
  cluster.id = cudaLaunchAttributeClusterDimension;
  cluster.val.clusterDim.x = kHalves;
  cluster.val.clusterDim.y = cluster.val.clusterDim.z = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = static_cast<unsigned>(ceil_div(t.columns, kBlockFeatures) * row_tiles * kHalves);
  config.blockDim = kThreads;
  config.dynamicSmemBytes = S::kSharedBytes;
  config.stream = stream;
  config.attrs = &cluster;
  config.numAttrs = 1;
  (void)cudaLaunchKernelEx(&config, kernel, t, rows, row_tiles);  // the last error, too
  check_launch("linear");
}

}  // namespace

void launch_linear_wide(const LinearTask& t, int64_t row_bytes, Workspace& workspace, cudaStream_t stream) {
  const int64_t rows_at_once = std::max<int64_t>(row_bytes / (t.depth * 2) / kMostTileRows, 1) * kMostTileRows;
  const int steps = t.depth / kStepDepth;
  for (int64_t first = 0; first < t.rows; first += rows_at_once) {
    const LinearTask part = rows_of(t, first, std::min(rows_at_once, t.rows - first));
    const int tile_rows = wide_tile_rows(part.rows);
    const int64_t padded = round_up(part.rows, tile_rows);
    auto* const rows = workspace.get<uint4>(padded * t.depth / 8);
    arrange_rows_kernel<<<blocks_for(padded * steps), kBlock, 0, stream>>>(static_cast<const bf16*>(part.x), part.x_stride, part.rows, tile_rows, steps, rows);
    check_launch("linear");
    switch (tile_rows) {
      case 64: launch<64, 8>(part, rows, stream); break;
      case 96: launch<96, 6>(part, rows, stream); break;
      case 128: launch<128, 6>(part, rows, stream); break;
      default: launch<160, 4>(part, rows, stream); break;
    }
  }
}

}  // namespace ardiff::cuda
