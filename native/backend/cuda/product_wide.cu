// product.cuh in bf16 on compute capability 9.0a: tiles of both operands, 64 of depth at a time, through four stages of shared memory. Rows
// are gathered 16 bytes at a time, so by threads and not by the copy engine: one warpgroup loads, some stages ahead, two multiply, each its
// rows by all columns of the tile. Blocks stay for all of their tiles, so that a tile's first stages come while the last one is stored.
//
// Weights in pieces (product_wide.h) come by the copy engine: the two blocks of a cluster have the same columns of rows below each other,
// each asks for half of a stage's weights for both. Elsewhere (attention's keys and values) the loading threads gather columns as they do
// rows.
#include <algorithm>

#include "backend/cuda/async_copy.cuh"
#include "backend/cuda/bulk_copy.cuh"
#include "backend/cuda/launch.cuh"
#include "backend/cuda/product_result.cuh"
#include "backend/cuda/product_wide.h"
#include "backend/cuda/wgmma.cuh"

namespace ardiff::cuda {
namespace {

using bf16 = __nv_bfloat16;

constexpr int kGroups = 2;  // warpgroups that multiply
constexpr int kMultiplying = kGroups * 128, kLoading = 128;
constexpr int kThreads = kMultiplying + kLoading;
constexpr int kRegisters = 200, kLoadRegisters = 104;
constexpr int kGroupRows = 64;
constexpr int kPiece = 8;                        // bf16 of one copy
constexpr int kPieces = kWideDepth / kPiece;     // of a row of a tile: 128 bytes
constexpr int kRowsAtOnce = kLoading / kPieces;  // rows of a tile that the loading threads copy in one turn
constexpr int kStages = 4;
constexpr int kAtOnce = 8;  // pairs of results that are stored together
static_assert(kRowsAtOnce % 8 == 0);

// kRowTiles of 64 rows for a warpgroup.
template <int kRowTiles, int kTileColumns>
struct Tile {
  static constexpr int kRows = kGroups * kRowTiles * kGroupRows, kColumns = kTileColumns;
  static constexpr int kStagePieces = (kRows + kColumns) * kPieces;
  static constexpr int kBytes = kStages * kStagePieces * 16;
  static constexpr int kRowsOfThread = kRows / kRowsAtOnce, kColumnsOfThread = kColumns / kRowsAtOnce;
};

// Those of the same rows come one after the other. With two blocks in a cluster a tile is one for each, the second below the first.
struct Tiles {
  int columns, count;  // tiles beside each other, and all
};

constexpr uint16_t kBothBlocks = 3;
template <bool kPieces>
struct Cluster {
  static constexpr int kBlocks = kPieces ? 2 : 1;
  __device__ static int rank() { return static_cast<int>(blockIdx.x) % kBlocks; }
  __device__ static int first_tile() { return static_cast<int>(blockIdx.x) / kBlocks; }
  __device__ static int tile_step() { return static_cast<int>(gridDim.x) / kBlocks; }
  __device__ static int64_t row_tile(const Tiles& tiles, int tile) { return static_cast<int64_t>(tile / tiles.columns) * kBlocks + rank(); }
};

// The rows of a tile that a loading thread copies pieces of.
template <int kCount>
struct Rows {
  int image[kCount];   // pixels before the image
  int corner[kCount];  // row and column where the window begins, 16 bits each
  int pixel[kCount];   // that the tap of the moment reads; below 0: none

  // The first of them, kRowsAtOnce apart.
  __device__ void set(const Product& p, int64_t first) {
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      const int64_t m = first + i * kRowsAtOnce;
      const bool exists = m < p.rows;
      const Window w = conv_window(p.shape, exists ? m : 0);
      image[i] = exists ? static_cast<int>(w.image_pixels) : -1;
      corner[i] = static_cast<int>(static_cast<unsigned>(w.row) << 16 | (static_cast<unsigned>(w.column) & 0xffffu));
    }
  }
  __device__ void set_tap(const ConvShape& s, int tap) {
    const int a = tap / s.kernel, b = tap % s.kernel;
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      const int row = (corner[i] >> 16) + a, column = static_cast<int16_t>(corner[i] & 0xffff) + b;
      const bool inside = image[i] >= 0 && row >= 0 && column >= 0 && row < s.height << s.doubling && column < s.width << s.doubling;
      pixel[i] = inside ? image[i] + (row >> s.doubling) * s.width + (column >> s.doubling) : -1;
    }
  }
};

// A stage's pieces are there; all multiplying warps, of all blocks that its weights go to, are done with them.
struct Barriers {
  uint64_t full[kStages], empty[kStages];
};

// A row of a tile is 128 bytes, its piece c at place c ^ row % 8 of them, as swizzled_operand expects. A thread's rows are a multiple of
// eight apart, so its place in a row stays.
template <typename T, bool kInPieces>
__device__ void load_tiles(const Product& p, const Tiles& tiles, uint4* stages, Barriers& barriers) {
  using C = Cluster<kInPieces>;
  const int thread = static_cast<int>(threadIdx.x) - kMultiplying, piece = thread % kPieces, thread_row = thread / kPieces;
  const int place = thread_row * kPieces + (piece ^ thread_row % 8);
  const int steps_per_tap = p.tap_depth / kWideDepth, taps = p.shape.kernel * p.shape.kernel;
  const auto* const a = static_cast<const bf16*>(p.a);
  int loaded = 0;  // stages, of all tiles
  for (int tile = C::first_tile(); tile < tiles.count; tile += C::tile_step()) {
    const int tile_column = tile % tiles.columns * T::kColumns;
    const int64_t first_column = tile_column + thread_row;
    Rows<T::kRowsOfThread> rows;
    rows.set(p, C::row_tile(tiles, tile) * T::kRows + thread_row);
    const bf16* column = static_cast<const bf16*>(p.b) + first_column * p.b_stride + piece * kPiece;
    // In pieces: the tile's columns that there are, of them the block's half, whole eights.
    const int there = min(T::kColumns, p.columns - tile_column), first_half = there / 16 * 8;
    const int own_first = C::rank() == 0 ? 0 : first_half, own = C::rank() == 0 ? first_half : there - first_half;
    const bf16* pieces = static_cast<const bf16*>(p.b) + (static_cast<int64_t>(tile_column) + own_first) * kWideDepth;
    for (int tap = 0; tap < taps; ++tap) {
      rows.set_tap(p.shape, tap);
      for (int step = 0; step < steps_per_tap; ++step, ++loaded, column += kWideDepth) {
        uint64_t* const full = barriers.full + loaded % kStages;
        wait_phase(barriers.empty + loaded % kStages, (loaded / kStages + 1) % 2);
        uint4* const stage = stages + loaded % kStages * T::kStagePieces;
        if (kInPieces && thread == 0) {
          arrive_expecting(full, static_cast<uint32_t>(there) * kWideDepth * sizeof(bf16));
          if (own > 0)
            copy_bulk_to_blocks(stage + (T::kRows + own_first) * kPieces, pieces, static_cast<uint32_t>(own) * kWideDepth * sizeof(bf16),
                                full, kBothBlocks);
          pieces += static_cast<int64_t>(p.columns) * kWideDepth;
        }
        uint4* const to = stage + place;
        const int channel = step * kWideDepth + piece * kPiece;
        const bf16* const from = a + channel;
#pragma unroll
        for (int i = 0; i < T::kRowsOfThread; ++i) {
          const bool exists = rows.pixel[i] >= 0 && channel < p.depth;
          copy_async_16(to + i * kRowsAtOnce * kPieces, exists ? from + rows.pixel[i] * p.shape.channels : a, exists);
        }
        if constexpr (!kInPieces) {
#pragma unroll
          for (int i = 0; i < T::kColumnsOfThread; ++i) {
            const bool exists = first_column + i * kRowsAtOnce < p.columns;
            copy_async_16(to + (T::kRows + i * kRowsAtOnce) * kPieces,
                          exists ? column + i * kRowsAtOnce * p.b_stride : static_cast<const bf16*>(p.b), exists);
          }
        }
        arrive_when_copied(full);
      }
    }
  }
}

// Whether results (m, n) and (m, n + 1), n even, can be stored together.
__device__ inline bool can_store_pairs(const Product& p) {
  return p.columns % 2 == 0 && p.y_stride % 2 == 0 && reinterpret_cast<uintptr_t>(p.y) % 8 == 0 &&
         reinterpret_cast<uintptr_t>(p.bias) % 8 == 0;
}

__device__ inline float2* pair_at(const Product& p, int64_t m, int n) {
  return reinterpret_cast<float2*>(static_cast<float*>(p.y) + m * p.y_stride + n);
}

// before: what y has there, if p adds.
__device__ inline void store_pair(const Product& p, int64_t m, int n, float first, float second, float2 before) {
  if (p.bias != nullptr) {
    const float2 bias = __ldg(reinterpret_cast<const float2*>(p.bias + n));
    first += bias.x;
    second += bias.y;
  }
  if (p.y_bf16) {
    *reinterpret_cast<__nv_bfloat162*>(static_cast<__nv_bfloat16*>(p.y) + m * p.y_stride + n) = __floats2bfloat162_rn(first, second);
  } else {
    *pair_at(p, m, n) = p.adds ? make_float2(before.x + first, before.y + second) : make_float2(first, second);
  }
}

template <int kRowTiles, int kColumns, bool kInPieces>
__device__ void multiply_tiles(const Product& p, const Tiles& tiles, const uint4* stages, Barriers& barriers) {
  using T = Tile<kRowTiles, kColumns>;
  using C = Cluster<kInPieces>;
  const int group = static_cast<int>(threadIdx.x) / 128, warp = static_cast<int>(threadIdx.x) / 32 % 4,
            lane = static_cast<int>(threadIdx.x) % 32;
  const int steps = p.shape.kernel * p.shape.kernel * (p.tap_depth / kWideDepth);
  const bool pairs = can_store_pairs(p);
  int done = 0;  // stages, of all tiles
  const auto give_back = [&](int stage) {
    uint64_t* const empty = barriers.empty + stage % kStages;
    if constexpr (kInPieces) {
      if (lane < C::kBlocks) arrive_in_block(address_in_block(empty, lane));
    } else if (lane == 0) {
      arrive(empty);
    }
  };
  for (int tile = C::first_tile(); tile < tiles.count; tile += C::tile_step()) {
    float sums[kRowTiles][kColumns / 2] = {};
    for (int step = 0; step < steps; ++step, ++done) {
      const int stage = done % kStages;
      wait_phase(barriers.full + stage, done / kStages % 2);
      publish_to_products();  // what the loading threads copied
      const uint4* const a = stages + stage * T::kStagePieces + group * kRowTiles * kGroupRows * kPieces;
      const uint4* const b = stages + stage * T::kStagePieces + T::kRows * kPieces;
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
      wait_products<1>();  // those of the stage before are done
      if (step > 0) give_back(done - 1);
    }
    wait_products<0>();
#pragma unroll
    for (int i = 0; i < kRowTiles; ++i) keep_in_order(sums[i]);
    give_back(done - 1);

    const int64_t first_row = C::row_tile(tiles, tile) * T::kRows + group * kRowTiles * kGroupRows + warp * 16 + lane / 4;
    const int first_column = tile % tiles.columns * kColumns + lane % 4 * 2;
#pragma unroll
    for (int i = 0; i < kRowTiles; ++i) {
#pragma unroll
      for (int first = 0; first < kColumns / 2; first += 2 * kAtOnce) {
        float2 befores[kAtOnce];  // asked for together: behind a store of the one before, each would be waited for
#pragma unroll
        for (int at = 0; at < kAtOnce; ++at) {
          const int s = first + 2 * at;
          const int64_t m = first_row + i * kGroupRows + s % 4 / 2 * 8;
          const int n = first_column + s / 4 * 8;
          befores[at] = pairs && p.adds && m < p.rows && n < p.columns ? *pair_at(p, m, n) : make_float2(0.0f, 0.0f);
        }
#pragma unroll
        for (int at = 0; at < kAtOnce; ++at) {
          const int s = first + 2 * at;
          const int64_t m = first_row + i * kGroupRows + s % 4 / 2 * 8;
          const int n = first_column + s / 4 * 8;
          if (m >= p.rows || n >= p.columns) continue;
          if (pairs) {
            store_pair(p, m, n, sums[i][s], sums[i][s + 1], befores[at]);
          } else {
            store(p, m, n, sums[i][s]);
            if (n + 1 < p.columns) store(p, m, n + 1, sums[i][s + 1]);
          }
        }
      }
    }
  }
}

template <int kRowTiles, int kColumns, bool kInPieces>
__global__ void __launch_bounds__(kThreads, 1) wide_product_kernel(Product p, Tiles tiles) {
  extern __shared__ __align__(1024) uint4 stages[];
  __shared__ Barriers barriers;
  if (threadIdx.x == 0) {
    for (int i = 0; i < kStages; ++i) {
      init_barrier(barriers.full + i, kLoading + (kInPieces ? 1 : 0));
      init_barrier(barriers.empty + i, kMultiplying / 32 * Cluster<kInPieces>::kBlocks);
    }
    publish_barriers();
  }
  const auto all_here = [] {
    if constexpr (kInPieces) {
      sync_cluster();
    } else {
      __syncthreads();
    }
  };
  all_here();
  if (threadIdx.x >= kMultiplying) {
    leave_registers<kLoadRegisters>();
    load_tiles<Tile<kRowTiles, kColumns>, kInPieces>(p, tiles, stages, barriers);
  } else {
    take_registers<kRegisters>();
    multiply_tiles<kRowTiles, kColumns, kInPieces>(p, tiles, stages, barriers);
  }
  if constexpr (kInPieces) all_here();  // nobody ends while weights or arrivals from the other are on their way
}

template <int kRowTiles, int kColumns, bool kInPieces>
void launch_as(const Product& p, cudaStream_t stream) {
  using T = Tile<kRowTiles, kColumns>;
  constexpr int kBlocks = Cluster<kInPieces>::kBlocks;
  Tiles tiles{};
  tiles.columns = static_cast<int>(ceil_div(p.columns, kColumns));
  tiles.count = static_cast<int>(ceil_div(p.rows, T::kRows * kBlocks)) * tiles.columns;
  const auto kernel = wide_product_kernel<kRowTiles, kColumns, kInPieces>;
  allow_shared_memory(kernel, T::kBytes);
  const auto blocks = static_cast<unsigned>(std::min(tiles.count, p.wide_multiprocessors / kBlocks) * kBlocks);
  LaunchShape shape{blocks, kThreads, T::kBytes};
  shape.early = false;
  shape.cluster = kBlocks;
  launch_shaped(stream, shape, kernel, p, tiles);
}

template <int kRowTiles, int kColumns>
void launch(const Product& p, cudaStream_t stream) {
  p.b_in_pieces ? launch_as<kRowTiles, kColumns, true>(p, stream) : launch_as<kRowTiles, kColumns, false>(p, stream);
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
