// product.cuh in bf16: tiles of kRows x kColumns results, depth in steps of 32 through three stages of shared memory, mma.sync
// m16n8k16 with float32 sums. Every result is one chain of sums over taps and channels, whatever the tile.
#include "backend/cuda/async_copy.cuh"
#include "backend/cuda/mma.cuh"
#include "backend/cuda/product_narrow.h"
#include "backend/cuda/product_result.cuh"
#include "backend/cuda/product_wide.h"

namespace ardiff::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kStages = 3;
constexpr int kPiece = 8;                                  // bf16 of one 16-byte copy
constexpr int kPieces = kProductDepth / kPiece;            // of one row of a tile
constexpr int kRowStride = kProductDepth + kPiece;         // bf16 from one row of a tile to the next: ldmatrix meets no bank twice
constexpr int kRowsAtOnce = kThreads / kPieces;            // rows of a tile that all threads copy in one turn

// Rows of a that a thread copies: where their windows begin; row < 0 where there is none.
template <int kRows>
struct RowWindows {
  Window window[kRows / kRowsAtOnce];
  bool valid[kRows / kRowsAtOnce];
};

template <int kRows>
__device__ void load_a(const Product& p, const RowWindows<kRows>& rows, int tap, int channel, __nv_bfloat16* to) {
  const auto* a = static_cast<const __nv_bfloat16*>(p.a);
  const int c = channel + static_cast<int>(threadIdx.x) % kPieces * kPiece;
  const int tap_row = tap / p.shape.kernel, tap_column = tap % p.shape.kernel;
#pragma unroll
  for (int i = 0; i < kRows / kRowsAtOnce; ++i) {
    const int64_t offset = rows.valid[i] && c < p.depth ? tap_offset(p.shape, rows.window[i], tap_row, tap_column) : -1;
    const int row = static_cast<int>(threadIdx.x) / kPieces + i * kRowsAtOnce;
    copy_async_16(to + row * kRowStride + static_cast<int>(threadIdx.x) % kPieces * kPiece, a + (offset < 0 ? 0 : offset + c), offset >= 0);
  }
}

template <int kColumns>
__device__ void load_b(const Product& p, int64_t first_column, int tap, int channel, __nv_bfloat16* to) {
  const auto* b = static_cast<const __nv_bfloat16*>(p.b);
  const int piece = static_cast<int>(threadIdx.x) % kPieces * kPiece;
#pragma unroll
  for (int i = 0; i < kColumns / kRowsAtOnce; ++i) {
    const int row = static_cast<int>(threadIdx.x) / kPieces + i * kRowsAtOnce;
    const int64_t n = first_column + row;
    const bool valid = n < p.columns;
    copy_async_16(to + row * kRowStride + piece, b + (valid ? n * p.b_stride + static_cast<int64_t>(tap) * p.tap_depth + channel + piece : 0), valid);
  }
}

// kWarpRows x kWarpColumns results of each warp.
template <int kRows, int kColumns, int kWarpRows, int kWarpColumns>
__global__ void __launch_bounds__(kThreads) product_kernel(Product p) {
  static_assert(kRows / kWarpRows * (kColumns / kWarpColumns) * 32 == kThreads && kRows % kRowsAtOnce == 0 && kColumns % kRowsAtOnce == 0);
  constexpr int kRowTiles = kWarpRows / 16, kColumnTiles = kWarpColumns / 8;
  constexpr int kStage = (kRows + kColumns) * kRowStride;
  extern __shared__ __align__(16) __nv_bfloat16 stages[];

  const int64_t first_row = static_cast<int64_t>(blockIdx.x) * kRows, first_column = static_cast<int64_t>(blockIdx.y) * kColumns;
  RowWindows<kRows> rows;
#pragma unroll
  for (int i = 0; i < kRows / kRowsAtOnce; ++i) {
    const int64_t m = first_row + static_cast<int>(threadIdx.x) / kPieces + i * kRowsAtOnce;
    rows.valid[i] = m < p.rows;
    rows.window[i] = conv_window(p.shape, rows.valid[i] ? m : 0);
  }

  const int steps_per_tap = p.tap_depth / kProductDepth;
  const int steps = p.shape.kernel * p.shape.kernel * steps_per_tap;
  int load_tap = 0, load_channel = 0, loaded = 0;  // the next step to be loaded
  const auto load_step = [&] {
    if (loaded < steps) {
      __nv_bfloat16* stage = stages + loaded % kStages * kStage;
      load_a<kRows>(p, rows, load_tap, load_channel, stage);
      load_b<kColumns>(p, first_column, load_tap, load_channel, stage + kRows * kRowStride);
      load_channel += kProductDepth;
      if (load_channel == p.tap_depth) {
        load_channel = 0;
        ++load_tap;
      }
      ++loaded;
    }
    commit_copies();
  };
  for (int i = 0; i < kStages - 1; ++i) load_step();

  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const int warp_row = warp / (kColumns / kWarpColumns) * kWarpRows, warp_column = warp % (kColumns / kWarpColumns) * kWarpColumns;
  float sums[kRowTiles][kColumnTiles][4] = {};
  for (int step = 0; step < steps; ++step) {
    wait_copies<kStages - 2>();
    __syncthreads();  // this step's tiles are there, and nobody reads those of the step before any more
    load_step();      // into the place of the step before
    const __nv_bfloat16* a = stages + step % kStages * kStage;
    const __nv_bfloat16* b = a + kRows * kRowStride;
#pragma unroll
    for (int k = 0; k < kProductDepth; k += 16) {
      uint32_t of_a[kRowTiles][4], of_b[kColumnTiles][2];
#pragma unroll
      for (int i = 0; i < kRowTiles; ++i) load_a_fragment(a + (warp_row + i * 16) * kRowStride + k, kRowStride, lane, of_a[i]);
#pragma unroll
      for (int j = 0; j < kColumnTiles; j += 2) load_b_fragments(b + (warp_column + j * 8) * kRowStride + k, kRowStride, lane, of_b[j], of_b[j + 1]);
#pragma unroll
      for (int i = 0; i < kRowTiles; ++i) {
#pragma unroll
        for (int j = 0; j < kColumnTiles; ++j) multiply_add(sums[i][j], of_a[i], of_b[j]);
      }
    }
  }

  // Results (lane / 4, 2 (lane % 4)) and its right neighbour, and the same eight rows below.
#pragma unroll
  for (int i = 0; i < kRowTiles; ++i) {
#pragma unroll
    for (int j = 0; j < kColumnTiles; ++j) {
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const int64_t m = first_row + warp_row + i * 16 + lane / 4 + e / 2 * 8;
        const int64_t n = first_column + warp_column + j * 8 + lane % 4 * 2 + e % 2;
        if (m < p.rows && n < p.columns) store(p, m, static_cast<int>(n), sums[i][j][e]);
      }
    }
  }
}

template <int kRows, int kColumns, int kWarpRows, int kWarpColumns>
void launch(const Product& p, cudaStream_t stream) {
  constexpr int kBytes = kStages * (kRows + kColumns) * kRowStride * static_cast<int>(sizeof(__nv_bfloat16));
  const auto kernel = product_kernel<kRows, kColumns, kWarpRows, kWarpColumns>;
  cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes);
  const dim3 grid(static_cast<unsigned>((p.rows + kRows - 1) / kRows), static_cast<unsigned>((p.columns + kColumns - 1) / kColumns));
  kernel<<<grid, kThreads, kBytes, stream>>>(p);
}

}  // namespace

template <>
void multiply<__nv_bfloat16>(const Product& p, cudaStream_t stream) {
  if (p.rows == 0) return;
  if (p.wide_multiprocessors > 0 && takes_wide_product(p)) {
    multiply_wide(p, stream);
  } else if (takes_narrow_product(p)) {
    multiply_narrow(p, stream);
  } else if (p.columns > 64) {
    launch<128, 128, 64, 32>(p, stream);
  } else {
    launch<128, 64, 32, 32>(p, stream);
  }
}

}  // namespace ardiff::cuda
