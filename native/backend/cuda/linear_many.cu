// Linear layers of many rows in bf16: tiles of weights and rows go through four stages of shared memory, each warp multiplies 64
// features by 32 rows. The sums of a result are those of linear_few.cu in the same order: chains within the slices of the depth,
// which are added here in registers or, where the slices are blocks of their own, by a second kernel.
#include <algorithm>

#include "backend/cuda/async_copy.cuh"
#include "backend/cuda/elements.cuh"
#include "backend/cuda/linear.cuh"
#include "backend/cuda/memory.h"
#include "backend/cuda/mma.cuh"
#include "backend/cuda/weight_layout.cuh"

namespace ardiff::cuda {
namespace {

constexpr int kStages = 4;
// Slices apart keep fewer sums in registers, so that two blocks share a multiprocessor, but their sums pass through memory. On an
// H100 that is the faster way at every measured depth (from 5120); by the bytes it cannot be so for shallow layers of many tiles.
constexpr int kShallow = 3072;
constexpr int kWarpTiles = 4;     // feature tiles of a warp
constexpr int kWarpRowTiles = 4;  // tiles of eight rows of a warp
constexpr int kPiece = 16;        // bytes of one copy
constexpr int kTilePieces = kTileBytes / kPiece;
constexpr int kRowPieces = kStepDepth * 2 / kPiece;

// kWarps of the block lie beside each other in features and rows.
template <int kFeatureWarps, int kRowWarps>
struct BlockShape {
  static constexpr int kTiles = kFeatureWarps * kWarpTiles;
  static constexpr int kFeatures = kTiles * kTileFeatures;
  static constexpr int kRows = kRowWarps * kWarpRowTiles * 8;
  static constexpr int kStagePieces = kTiles * kTilePieces + kRows * kRowPieces;
  static constexpr size_t kSharedBytes = static_cast<size_t>(kStages) * kStagePieces * kPiece;
  static_assert(kFeatureWarps * kRowWarps * 32 == kBlock);
};

// One step of the block's weights, then of its rows, as 16-byte pieces. Zeros where there are none.
template <typename S>
__device__ void load_stage(const LinearTask& t, int first_tile, int64_t first_row, int step, uint4* stage) {
  const int steps = t.depth / kStepDepth, tiles = (t.columns + kTileFeatures - 1) / kTileFeatures;
  const auto* weights = static_cast<const uint4*>(t.weight);
#pragma unroll
  for (int i = static_cast<int>(threadIdx.x); i < S::kTiles * kTilePieces; i += kBlock) {
    const int tile = first_tile + i / kTilePieces;
    const bool exists = tile < tiles;
    copy_async_16(stage + i, weights + (exists ? (static_cast<int64_t>(tile) * steps + step) * kTilePieces + i % kTilePieces : 0), exists);
  }
  const auto* x = static_cast<const bf16*>(t.x);
  uint4* rows = stage + S::kTiles * kTilePieces;
#pragma unroll
  for (int i = static_cast<int>(threadIdx.x); i < S::kRows * kRowPieces; i += kBlock) {
    const int64_t m = first_row + i / kRowPieces;
    const bool exists = m < t.rows;
    copy_async_16(rows + i, x + (exists ? m * t.x_stride + step * kStepDepth + i % kRowPieces * 8 : 0), exists);
  }
}

using Sums = float[kWarpTiles][kWarpRowTiles][4];

// tiles, rows: where the warp's begin in a stage.
__device__ inline void multiply_step(const uint4* tiles, const uint4* rows, int lane, Sums& sums) {
  uint4 of_x[kWarpRowTiles];
#pragma unroll
  for (int j = 0; j < kWarpRowTiles; ++j) of_x[j] = rows[j * 8 * kRowPieces + lane];  // row lane / 4, numbers 8 (lane % 4) on
#pragma unroll
  for (int half = 0; half < 2; ++half) {
#pragma unroll
    for (int f = 0; f < kWarpTiles; ++f) {
      const uint4 w = tiles[f * kTilePieces + half * 32 + lane];
      const uint32_t a[4] = {w.x, w.y, w.z, w.w};
#pragma unroll
      for (int j = 0; j < kWarpRowTiles; ++j) {
        const uint32_t b[2] = {half == 0 ? of_x[j].x : of_x[j].z, half == 0 ? of_x[j].y : of_x[j].w};
        multiply_add(sums[f][j], a, b);
      }
    }
  }
}

// kApart: block z has slice z and writes its sums to partial (slices, rows, columns). Otherwise a block has all slices.
template <int kFeatureWarps, int kRowWarps, bool kApart>
__global__ void __launch_bounds__(kBlock, kApart ? 2 : 1) many_rows_kernel(LinearTask t, float* partial) {
  using S = BlockShape<kFeatureWarps, kRowWarps>;
  extern __shared__ __align__(16) uint4 stages[];
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const int feature_warp = warp % kFeatureWarps, row_warp = warp / kFeatureWarps;
  const int first_tile = static_cast<int>(blockIdx.x) * S::kTiles;
  const int64_t first_row = static_cast<int64_t>(blockIdx.y) * S::kRows;
  const int steps = t.depth / kStepDepth;
  const int begin = kApart ? slice_begin(steps, static_cast<int>(blockIdx.z)) : 0;
  const int end = kApart ? slice_begin(steps, static_cast<int>(blockIdx.z) + 1) : steps;

  const auto load = [&](int step) {
    if (step < end) load_stage<S>(t, first_tile, first_row, step, stages + step % kStages * S::kStagePieces);
    commit_copies();
  };
  for (int i = 0; i < kStages - 1; ++i) load(begin + i);

  Sums sums = {};
  Sums total = {}, first_half = {};  // of whole slices, and of the first half's; unused and not there if kApart
  int slice = 0;
  for (int step = begin; step < end; ++step) {
    if constexpr (!kApart) {
      while (step == slice_begin(steps, slice + 1)) {  // also passes slices without a step
        ++slice;
#pragma unroll
        for (int f = 0; f < kWarpTiles; ++f) {
#pragma unroll
          for (int j = 0; j < kWarpRowTiles; ++j) {
#pragma unroll
            for (int e = 0; e < 4; ++e) {
              total[f][j][e] = __fadd_rn(total[f][j][e], sums[f][j][e]);
              sums[f][j][e] = 0.0f;
              if (slice == kSlicesOfHalf) {
                first_half[f][j][e] = total[f][j][e];
                total[f][j][e] = 0.0f;
              }
            }
          }
        }
      }
    }
    wait_copies<kStages - 2>();
    __syncthreads();           // this step's pieces are there, and nobody reads those of the step before any more
    load(step + kStages - 1);  // into the place of the step before
    const uint4* stage = stages + step % kStages * S::kStagePieces;
    multiply_step(stage + feature_warp * kWarpTiles * kTilePieces,
                  stage + S::kTiles * kTilePieces + row_warp * kWarpRowTiles * 8 * kRowPieces, lane, sums);
  }

  // Results: feature lane / 4 (+ 8), rows 2 (lane % 4) and the next.
#pragma unroll
  for (int f = 0; f < kWarpTiles; ++f) {
#pragma unroll
    for (int j = 0; j < kWarpRowTiles; ++j) {
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const int n = (first_tile + feature_warp * kWarpTiles + f) * kTileFeatures + lane / 4 + e / 2 * 8;
        const int64_t m = first_row + (row_warp * kWarpRowTiles + j) * 8 + lane % 4 * 2 + e % 2;
        if (m >= t.rows || n >= t.columns) continue;
        if constexpr (kApart) {
          partial[(blockIdx.z * t.rows + m) * t.columns + n] = sums[f][j][e];
        } else {
          finish(t, m, n, __fadd_rn(first_half[f][j][e], __fadd_rn(total[f][j][e], sums[f][j][e])));
        }
      }
    }
  }
}

// kVec neighbours of a row at a time.
template <int kVec>
__global__ void finish_slices_kernel(LinearTask t, const float* partial) {
  const int64_t results = t.rows * t.columns;
  const bool adds = t.kind == Epilogue::Kind::kAdd || t.kind == Epilogue::Kind::kGatedAdd;
  for (int64_t i = first_item() * kVec; i < results; i += item_step() * kVec) {
    const int64_t m = i / t.columns, n = i % t.columns, at = m * t.y_stride + n;
    float of_slices[kSlices][kVec], values[kVec], bias[kVec], befores[kVec] = {}, gates[kVec] = {};
#pragma unroll
    for (int s = 0; s < kSlices; ++s) load_elements<kVec>(partial + s * results + i, of_slices[s]);
    load_elements<kVec>(t.bias + n, bias);
    if (adds) load_elements<kVec>(static_cast<const float*>(t.y) + at, befores);
    if (const float* const gate = gate_of(t, m); gate != nullptr) load_elements<kVec>(gate + n, gates);
#pragma unroll
    for (int e = 0; e < kVec; ++e)
      values[e] = finished(t.kind, add_slices([&](int s) { return of_slices[s][e]; }), bias[e], befores[e], gates[e]);
    if (t.y_bf16) {
      store_elements<kVec>(static_cast<bf16*>(t.y) + at, values);
    } else {
      store_elements<kVec>(static_cast<float*>(t.y) + at, values);
    }
  }
}

template <int kFeatureWarps, int kRowWarps>
void launch(const LinearTask& t, int multiprocessors, int64_t partial_bytes, Workspace& workspace, cudaStream_t stream) {
  using S = BlockShape<kFeatureWarps, kRowWarps>;
  dim3 grid(static_cast<unsigned>(ceil_div(t.columns, S::kFeatures)), static_cast<unsigned>(ceil_div(t.rows, S::kRows)));
  if (t.depth <= kShallow && static_cast<int64_t>(grid.x) * grid.y >= multiprocessors) {
    const auto kernel = many_rows_kernel<kFeatureWarps, kRowWarps, false>;
    allow_shared_memory(kernel, S::kSharedBytes);
    kernel<<<grid, kBlock, S::kSharedBytes, stream>>>(t, nullptr);
    check_launch("linear");
    return;
  }
  const int64_t rows_at_once = std::max<int64_t>(partial_bytes / (kSlices * 4) / t.columns / S::kRows, 1) * S::kRows;
  float* partial = workspace.get<float>(kSlices * std::min(rows_at_once, t.rows) * t.columns);
  const auto kernel = many_rows_kernel<kFeatureWarps, kRowWarps, true>;
  allow_shared_memory(kernel, S::kSharedBytes);
  for (int64_t first = 0; first < t.rows; first += rows_at_once) {
    const LinearTask part = rows_of(t, first, std::min(rows_at_once, t.rows - first));
    grid.y = static_cast<unsigned>(ceil_div(part.rows, S::kRows));
    grid.z = kSlices;
    kernel<<<grid, kBlock, S::kSharedBytes, stream>>>(part, partial);
    check_launch("linear");
    const bool by_four = part.columns % 4 == 0 && lies_by_four(part.y, part.y_stride, part.y_bf16 ? sizeof(bf16) : sizeof(float)) &&
                         lies_by_four(part.gate, part.gate_stride);
    const auto finish_slices = by_four ? finish_slices_kernel<4> : finish_slices_kernel<1>;
    finish_slices<<<blocks_for(part.rows * part.columns / (by_four ? 4 : 1)), kBlock, 0, stream>>>(part, partial);
    check_launch("linear");
  }
}

}  // namespace

void launch_linear_many(const LinearTask& t, int multiprocessors, int64_t partial_bytes, Workspace& workspace, cudaStream_t stream) {
  if (t.rows <= 64) {
    launch<4, 2>(t, multiprocessors, partial_bytes, workspace, stream);
  } else {
    launch<2, 4>(t, multiprocessors, partial_bytes, workspace, stream);
  }
}

}  // namespace ardiff::cuda
