// Linear layers of at most 32 rows in bf16: as fast as the weights come from memory. A block has 16 or 32 features and each of its eight
// warps one slice of their depth; weights go from memory to registers some steps ahead of their products, without shared memory in
// between. The slices' sums are added at the end.
//
// Own rows: a block gathers and rounds the rows itself, while its first weights are on their way. Pairs: it has two feature tiles that
// belong together, gate and up or the halves of a head, and does what follows the product too.
#include "backend/cuda/linear_few.cuh"
#include "backend/cuda/launch.cuh"
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

// The rows of a task in bf16, own_row_stride apart, zeros behind their width: every thread has numbers of any of them.
__device__ void round_own_rows(const FewRowsTask& task, bf16* to) {
  const int depth = task.product.depth, rows = static_cast<int>(task.product.rows);
  const int64_t stride = own_row_stride(depth);
#pragma unroll 4
  for (int i = static_cast<int>(threadIdx.x); i < rows * depth; i += kBlock) {
    const int m = i / depth, c = i % depth;
    to[m * stride + c] = __float2bfloat16_rn(c < task.own.width ? task.own.row(m)[c] : 0.0f);
  }
  __syncthreads();
}

// kTiles: feature tiles of a block, activations are read once for all. kAhead: steps in flight.
template <int kRowTiles, int kTiles, int kAhead, bool kOwnRows, bool kPairs>
__global__ void __launch_bounds__(kBlock, 2) few_rows_kernel(FewRowsTask task) {
  static_assert(!kPairs || kTiles == 2);
  constexpr int kRows = kRowTiles * 8, kFeatures = kTiles * kTileFeatures;
  extern __shared__ __align__(16) unsigned char shared[];
  __shared__ float partial[kSlices][kRows][kFeatures];
  const LinearTask& t = task.product;
  const int slice = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const int steps = t.depth / kStepDepth, begin = slice_begin(steps, slice), end = slice_begin(steps, slice + 1);
  const int block = static_cast<int>(blockIdx.x);
  const int first_tile = kPairs ? task.after.pairs.first(block) : block * kTiles, tile_distance = kPairs ? task.after.pairs.tiles : 1;

  const uint4* weights = static_cast<const uint4*>(t.weight) + static_cast<int64_t>(first_tile) * steps * 64 + lane;
  const auto load_weights = [&](int step, Step<kRowTiles, kTiles>& to) {
#pragma unroll
    for (int f = 0; f < kTiles; ++f) {
#pragma unroll
      for (int half = 0; half < 2; ++half) to.weights[f][half] = load_once(weights + (static_cast<int64_t>(f) * tile_distance * steps + step) * 64 + half * 32);
    }
  };
  Step<kRowTiles, kTiles> ahead[kAhead];
#pragma unroll
  for (int i = 0; i < kAhead; ++i) {
    if (begin + i < end) load_weights(begin + i, ahead[i]);
  }
  wait_for_predecessor();
  let_successor_begin();
  if constexpr (kOwnRows) round_own_rows(task, reinterpret_cast<bf16*>(shared));

  const bf16* x = kOwnRows ? reinterpret_cast<const bf16*>(shared) : static_cast<const bf16*>(t.x);
  const int64_t x_stride = kOwnRows ? own_row_stride(t.depth) : t.x_stride;
  const uint4* rows[kRowTiles];  // lane's row of each row tile, at its eight numbers of a step
  bool exists[kRowTiles];
#pragma unroll
  for (int i = 0; i < kRowTiles; ++i) {
    const int m = i * 8 + lane / 4;
    exists[i] = m < t.rows;
    rows[i] = reinterpret_cast<const uint4*>(x + (exists[i] ? m : 0) * x_stride) + lane % 4;
  }
  const auto load_rows = [&](int step, Step<kRowTiles, kTiles>& to) {
#pragma unroll
    for (int i = 0; i < kRowTiles; ++i) to.rows[i] = exists[i] ? rows[i][static_cast<int64_t>(step) * 4] : make_uint4(0, 0, 0, 0);
  };

  float sums[kTiles][kRowTiles][4] = {};
#pragma unroll
  for (int i = 0; i < kAhead; ++i) {
    if (!kOwnRows && begin + i < end) load_rows(begin + i, ahead[i]);
  }
  for (int step = begin; step < end; step += kAhead) {
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      if (step + i >= end) break;
      if (kOwnRows) load_rows(step + i, ahead[i]);  // near: not ahead of time
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
      if (step + i + kAhead < end) {
        load_weights(step + i + kAhead, ahead[i]);
        if (!kOwnRows) load_rows(step + i + kAhead, ahead[i]);
      }
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
  const auto sum_of = [&](int m, int n) { return add_slices([&](int s) { return partial[s][m][n]; }); };
  if constexpr (kPairs) {
    for (int i = static_cast<int>(threadIdx.x); i < kRows * kTileFeatures; i += kBlock) {
      const int m = i / kTileFeatures, n = i % kTileFeatures;
      if (m >= t.rows) continue;
      finish_pair(t, task.after, m, first_tile * kTileFeatures + n, sum_of(m, n), sum_of(m, kTileFeatures + n));
    }
  } else {
    for (int i = static_cast<int>(threadIdx.x); i < kRows * kFeatures; i += kBlock) {
      const int m = i / kFeatures, n = i % kFeatures;
      const int column = first_tile * kTileFeatures + n;
      if (m >= t.rows || column >= t.columns) continue;
      finish(t, m, column, sum_of(m, n));
    }
  }
}

// Whether a product may begin before its predecessor's end. Measured on an H100: steps of the 14B gain up to 3 % by it with up to 10 rows and
// took 12 and 28 % longer with 16 and 32 when all kernels began early; the flow head, whose layers are small, gains with all.
bool begins_early(const LinearTask& t) {
  constexpr int64_t kRows = 10, kSmallWeights = int64_t{16} << 20;
  return t.rows <= kRows || static_cast<int64_t>(t.columns) * t.depth * 2 <= kSmallWeights;
}

template <int kRowTiles, int kTiles, int kAhead, bool kOwnRows, bool kPairs>
void launch(const FewRowsTask& task, const Stream& stream) {
  const LinearTask& t = task.product;
  const auto blocks = static_cast<unsigned>(ceil_div(t.columns, kTiles * kTileFeatures));
  const auto shared = static_cast<size_t>(kOwnRows ? own_rows_bytes(t.rows, t.depth) : 0);
  const auto kernel = few_rows_kernel<kRowTiles, kTiles, kAhead, kOwnRows, kPairs>;
  allow_shared_memory(kernel, shared);
  launch_dependent(stream, {blocks, kBlock, shared, begins_early(t)}, "linear", kernel, task);
}

// Tiles and steps in flight as measured on an H100: within 2 % of the best for every layer of NextStep-1 14B. Pairs need two tiles; with
// at most 8 rows that is as many bytes in flight as one tile of twice the steps, and has not been measured.
template <bool kOwnRows, bool kPairs>
void launch_rows(const FewRowsTask& task, const Stream& stream) {
  if (task.product.rows <= 8) {
    if constexpr (kPairs) {
      launch<1, 2, 4, kOwnRows, true>(task, stream);
    } else {
      launch<1, 1, 8, kOwnRows, false>(task, stream);
    }
  } else if (task.product.rows <= 16) {
    launch<2, 2, 3, kOwnRows, kPairs>(task, stream);
  } else {
    launch<4, 2, 2, kOwnRows, kPairs>(task, stream);
  }
}

}  // namespace

void launch_few_rows(const FewRowsTask& task, const Stream& stream) {
  if (task.own.x != nullptr) {  // gathered, and nothing in pairs
    launch_rows<true, false>(task, stream);
  } else if (task.after.in_pairs()) {
    launch_rows<false, true>(task, stream);
  } else {
    launch_rows<false, false>(task, stream);
  }
}

void launch_linear_few(const LinearTask& t, const Stream& stream) {
  FewRowsTask task{};
  task.product = t;
  launch_few_rows(task, stream);
}

}  // namespace ardiff::cuda
