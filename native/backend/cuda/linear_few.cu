// Linear layers of at most 32 rows in bf16: as fast as the weights come from memory. A block has 16 or 32 features and each of its eight
// warps one slice of their depth; weights go from memory to registers some steps ahead of their products, without shared memory in
// between. The slices' sums are added in order at the end.
#include "backend/cuda/linear.cuh"
#include "backend/cuda/mma.cuh"
#include "backend/cuda/weight_layout.cuh"

namespace ardiff::cuda {
namespace {

static_assert(kBlock == kSlices * 32);

// Read once, so it need not stay in the caches that activations live in.
__device__ inline uint4 load_once(const uint4* from) { return __ldcs(from); }

// What a warp needs for one step: kTiles tiles of weights in two halves, and eight rows of x per row tile.
template <int kRowTiles, int kTiles>
struct Step {
  uint4 weights[kTiles][2];
  uint4 rows[kRowTiles];
};

// kTiles: feature tiles of a block, activations are read once for all. kAhead: steps in flight.
template <int kRowTiles, int kTiles, int kAhead>
__global__ void __launch_bounds__(kBlock, 2) few_rows_kernel(LinearTask t) {
  constexpr int kRows = kRowTiles * 8, kFeatures = kTiles * kTileFeatures;
  __shared__ float partial[kSlices][kRows][kFeatures];
  const int slice = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const int steps = t.depth / kStepDepth, begin = slice_begin(steps, slice), end = slice_begin(steps, slice + 1);

  const uint4* weights = static_cast<const uint4*>(t.weight) + static_cast<int64_t>(blockIdx.x) * kTiles * steps * 64 + lane;
  const bf16* x = static_cast<const bf16*>(t.x);
  const uint4* rows[kRowTiles];  // lane's row of each row tile, at its eight numbers of a step
  bool exists[kRowTiles];
#pragma unroll
  for (int i = 0; i < kRowTiles; ++i) {
    const int m = i * 8 + lane / 4;
    exists[i] = m < t.rows;
    rows[i] = reinterpret_cast<const uint4*>(x + (exists[i] ? m : 0) * t.x_stride) + lane % 4;
  }
  const auto load = [&](int step, Step<kRowTiles, kTiles>& to) {
#pragma unroll
    for (int f = 0; f < kTiles; ++f) {
#pragma unroll
      for (int half = 0; half < 2; ++half) to.weights[f][half] = load_once(weights + (static_cast<int64_t>(f) * steps + step) * 64 + half * 32);
    }
#pragma unroll
    for (int i = 0; i < kRowTiles; ++i) to.rows[i] = exists[i] ? rows[i][static_cast<int64_t>(step) * 4] : make_uint4(0, 0, 0, 0);
  };

  Step<kRowTiles, kTiles> ahead[kAhead];
  float sums[kTiles][kRowTiles][4] = {};
#pragma unroll
  for (int i = 0; i < kAhead; ++i) {
    if (begin + i < end) load(begin + i, ahead[i]);
  }
  for (int step = begin; step < end; step += kAhead) {
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      if (step + i >= end) break;
#pragma unroll
      for (int half = 0; half < 2; ++half) {
#pragma unroll
        for (int f = 0; f < kTiles; ++f) {
          const uint4 w = ahead[i].weights[f][half];
          const uint32_t of_w[4] = {w.x, w.y, w.z, w.w};
#pragma unroll
          for (int j = 0; j < kRowTiles; ++j) {
            const uint4 r = ahead[i].rows[j];
            const uint32_t of_x[2] = {half == 0 ? r.x : r.z, half == 0 ? r.y : r.w};
            multiply_add(sums[f][j], of_w, of_x);
          }
        }
      }
      if (step + i + kAhead < end) load(step + i + kAhead, ahead[i]);
    }
  }

  // Results: feature lane / 4 (+ 8), rows 2 (lane % 4) and the next.
#pragma unroll
  for (int f = 0; f < kTiles; ++f) {
#pragma unroll
    for (int j = 0; j < kRowTiles; ++j) {
#pragma unroll
      for (int e = 0; e < 4; ++e) partial[slice][j * 8 + lane % 4 * 2 + e % 2][f * kTileFeatures + lane / 4 + e / 2 * 8] = sums[f][j][e];
    }
  }
  __syncthreads();
  for (int i = static_cast<int>(threadIdx.x); i < kRows * kFeatures; i += kBlock) {
    const int m = i / kFeatures, n = i % kFeatures;
    const int column = static_cast<int>(blockIdx.x) * kFeatures + n;
    if (m >= t.rows || column >= t.columns) continue;
    float sum = 0.0f;
#pragma unroll
    for (int s = 0; s < kSlices; ++s) sum = __fadd_rn(sum, partial[s][m][n]);
    finish(t, m, column, sum);
  }
}

template <int kRowTiles, int kTiles, int kAhead>
void launch(const LinearTask& t, cudaStream_t stream) {
  const auto blocks = static_cast<unsigned>(ceil_div(t.columns, kTiles * kTileFeatures));
  few_rows_kernel<kRowTiles, kTiles, kAhead><<<blocks, kBlock, 0, stream>>>(t);
  check_launch("linear");
}

}  // namespace

// Tiles and steps in flight as measured on an H100: within 2 % of the best for every layer of NextStep-1 14B.
void launch_linear_few(const LinearTask& t, cudaStream_t stream) {
  if (t.rows <= 8) {
    launch<1, 1, 8>(t, stream);
  } else if (t.rows <= 16) {
    launch<2, 2, 3>(t, stream);
  } else {
    launch<4, 2, 2>(t, stream);
  }
}

}  // namespace ardiff::cuda
