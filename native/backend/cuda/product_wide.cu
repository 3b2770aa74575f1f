// product.cuh in bf16 on compute capability 9.0a: tiles of both operands, 64 of depth at a time, through four stages of shared memory; each
// of two warpgroups multiplies its rows by all columns of the block. Rows are gathered 16 bytes at a time, so by all threads and not by
// the copy engine.
#include "backend/cuda/product_wide.h"

#include <algorithm>

#include "backend/cuda/async_copy.cuh"
#include "backend/cuda/device.h"
#include "backend/cuda/memory.h"
#include "backend/cuda/product_result.cuh"
#include "backend/cuda/wgmma.cuh"

namespace ardiff::cuda {
namespace {

using bf16 = __nv_bfloat16;

constexpr int kGroups = 2;  // warpgroups
constexpr int kThreads = kGroups * 128;
constexpr int kGroupRows = 64;
constexpr int kPiece = 8;                         // bf16 of one copy
constexpr int kPieces = kWideDepth / kPiece;      // of a row of a tile: 128 bytes
constexpr int kRowsAtOnce = kThreads / kPieces;   // rows of a tile that all threads copy in one turn
constexpr int kStages = 4;
constexpr int kAhead = kStages - 2;  // one stage is multiplied by, one may still be

// kRowTiles of 64 rows for a warpgroup.
template <int kRowTiles, int kColumns>
struct Tile {
  static constexpr int kRows = kGroups * kRowTiles * kGroupRows;
  static constexpr int kStagePieces = (kRows + kColumns) * kPieces;
  static constexpr int kBytes = kStages * kStagePieces * 16;
  static constexpr int kRowsOfThread = kRows / kRowsAtOnce, kColumnsOfThread = kColumns / kRowsAtOnce;
};

// Where piece c of row r of a tile lies, as swizzled_operand expects.
__device__ inline int place(int r, int c) { return r * kPieces + (c ^ r % 8); }

// The rows that a thread copies pieces of: where their windows begin. valid: bit i for row i.
template <int kCount>
struct RowWindows {
  int64_t image_pixels[kCount];
  int corner[kCount];  // row and column, 16 bits each
  unsigned valid;

  __device__ void set(const Product& p, int64_t first_row) {
    valid = 0;
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      const int64_t m = first_row + i * kRowsAtOnce;
      const bool exists = m < p.rows;
      const Window w = conv_window(p.shape, exists ? m : 0);
      image_pixels[i] = w.image_pixels;
      corner[i] = static_cast<int>(static_cast<unsigned>(w.row) << 16 | (static_cast<unsigned>(w.column) & 0xffffu));
      valid |= static_cast<unsigned>(exists) << i;
    }
  }
  __device__ Window window(int i) const { return {image_pixels[i], corner[i] >> 16, static_cast<int>(static_cast<int16_t>(corner[i] & 0xffff))}; }
};

template <int kRowTiles, int kColumns>
__global__ void __launch_bounds__(kThreads, 1) wide_product_kernel(Product p) {
  using T = Tile<kRowTiles, kColumns>;
  extern __shared__ __align__(1024) uint4 stages[];
  const int64_t first_row = static_cast<int64_t>(blockIdx.x) * T::kRows, first_column = static_cast<int64_t>(blockIdx.y) * kColumns;
  const int piece = static_cast<int>(threadIdx.x) % kPieces, thread_row = static_cast<int>(threadIdx.x) / kPieces;
  RowWindows<T::kRowsOfThread> rows;
  rows.set(p, first_row + thread_row);

  const int steps_per_tap = p.tap_depth / kWideDepth;
  const int steps = p.shape.kernel * p.shape.kernel * steps_per_tap;
  int load_tap = 0, load_channel = 0, loaded = 0;  // the next step to be loaded
  const auto load_step = [&] {
    if (loaded < steps) {
      uint4* const stage = stages + loaded % kStages * T::kStagePieces;
      const auto* a = static_cast<const bf16*>(p.a);
      const auto* b = static_cast<const bf16*>(p.b);
      const int c = load_channel + piece * kPiece, tap_row = load_tap / p.shape.kernel, tap_column = load_tap % p.shape.kernel;
#pragma unroll
      for (int i = 0; i < T::kRowsOfThread; ++i) {
        const bool exists = (rows.valid >> i & 1) != 0 && c < p.depth;
        const int64_t offset = exists ? tap_offset(p.shape, rows.window(i), tap_row, tap_column) : -1;
        copy_async_16(stage + place(thread_row + i * kRowsAtOnce, piece), a + (offset < 0 ? 0 : offset + c), offset >= 0);
      }
      uint4* const columns = stage + T::kRows * kPieces;
#pragma unroll
      for (int i = 0; i < T::kColumnsOfThread; ++i) {
        const int64_t n = first_column + thread_row + i * kRowsAtOnce;
        const bool exists = n < p.columns;
        copy_async_16(columns + place(thread_row + i * kRowsAtOnce, piece), b + (exists ? n * p.b_stride + static_cast<int64_t>(load_tap) * p.tap_depth + c : 0),
                      exists);
      }
      load_channel += kWideDepth;
      if (load_channel == p.tap_depth) {
        load_channel = 0;
        ++load_tap;
      }
      ++loaded;
    }
    commit_copies();
  };
  for (int i = 0; i < kAhead; ++i) load_step();

  const int group = static_cast<int>(threadIdx.x) / 128, warp = static_cast<int>(threadIdx.x) / 32 % 4, lane = static_cast<int>(threadIdx.x) % 32;
  float sums[kRowTiles][kColumns / 2] = {};
  for (int step = 0; step < steps; ++step) {
    wait_copies<kAhead - 1>();
    publish_to_products();
    __syncthreads();  // this step's tiles are there, and all products but those of the step before are done
    const uint4* a = stages + step % kStages * T::kStagePieces + group * kRowTiles * kGroupRows * kPieces;
    const uint4* b = stages + step % kStages * T::kStagePieces + T::kRows * kPieces;
    begin_products();
#pragma unroll
    for (int k = 0; k < kWideDepth / 16; ++k) {
#pragma unroll
      for (int i = 0; i < kRowTiles; ++i) {
        multiply_async(sums[i], swizzled_operand(a + i * kGroupRows * kPieces) + static_cast<uint64_t>(k) * kSwizzledDepth,
                       swizzled_operand(b) + static_cast<uint64_t>(k) * kSwizzledDepth, 1);
      }
    }
    commit_products();
    load_step();  // into the place of the step before the last
    wait_products<1>();
  }
  wait_products<0>();
#pragma unroll
  for (int i = 0; i < kRowTiles; ++i) keep_in_order(sums[i]);

#pragma unroll
  for (int i = 0; i < kRowTiles; ++i) {
#pragma unroll
    for (int s = 0; s < kColumns / 2; ++s) {
      const int64_t m = first_row + (group * kRowTiles + i) * kGroupRows + warp * 16 + lane / 4 + s % 4 / 2 * 8;
      const int64_t n = first_column + s / 4 * 8 + lane % 4 * 2 + s % 2;
      if (m < p.rows && n < p.columns) store(p, m, static_cast<int>(n), sums[i][s]);
    }
  }
}

template <int kRowTiles, int kColumns>
void launch(const Product& p, cudaStream_t stream) {
  using T = Tile<kRowTiles, kColumns>;
  const auto kernel = wide_product_kernel<kRowTiles, kColumns>;
  allow_shared_memory(kernel, T::kBytes);
  const dim3 grid(static_cast<unsigned>((p.rows + T::kRows - 1) / T::kRows), static_cast<unsigned>((p.columns + kColumns - 1) / kColumns));
  kernel<<<grid, kThreads, T::kBytes, stream>>>(p);
}

// Rows x columns that a device of so many multiprocessors computes, the last turn's idle ones and tiles' empty parts included.
int64_t computed(const Product& p, int64_t rows, int64_t columns) {
  const int64_t blocks = ceil_div(p.rows, rows) * ceil_div(p.columns, columns);
  return round_up(blocks, p.wide_multiprocessors) * rows * columns;
}

}  // namespace

void multiply_wide(const Product& p, cudaStream_t stream) {
  // Tiles of half the size read half as much again for a result: taken where they leave that much less idle.
  const int64_t wide = computed(p, 128, 256), tall = computed(p, 256, 128), small = computed(p, 128, 128);
  if (small * 5 < std::min(wide, tall) * 4) {
    launch<1, 128>(p, stream);
  } else if (wide < tall) {
    launch<1, 256>(p, stream);
  } else {
    launch<2, 128>(p, stream);
  }
}

}  // namespace ardiff::cuda
