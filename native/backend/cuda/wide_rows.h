// How linear_wide.cu takes its rows. Plain C++ too: cuda_index_test runs it on the host.
#pragma once

#include <cstdint>

#include "backend/host_device.h"

namespace ardiff::cuda {

// Rows lie tile by tile, step by step of 32 numbers, as the right operand of two products of 16 of depth: [tile][step][product][part of 8
// numbers][row][8]. Which numbers of a row stand where follows from weight_layout.cuh: those of depths 2 t, 2 t + 1 (part 0) and
// 2 t + 8, 2 t + 9 (part 1) of product h are numbers 8 t + 4 h + {0, 1} and 8 t + 4 h + {2, 3} of the step.
constexpr int kMostTileRows = 160;  // twice as many sums in registers as rows / 2: those of the slice and those of all before

struct WideDevice {
  int multiprocessors = 0;   // 0: these kernels are not taken
  bool storers = false;      // warps of their own store, while those that multiply go on with the next tile
  bool shared_rows = false;  // with tiles of 128 or 160 rows, clusters of four blocks, two of which get the same rows by one copy
};

// Whether these kernels are the faster ones: measured on an H100, from some 1.3 G multiply-adds on (64 rows of 5120 x 5120: 1.06 times, of
// 4096 x 4096: 0.89; 256 rows of 1536 x 1536: 0.78, 1024 rows: 1.5), and of many rows of small layers (of 512 x 512, 2048 rows: 1.6, 4096
// rows: 2.1). Bits are the same either way.
constexpr int64_t kWideProducts = 1'300'000'000;
ARDIFF_HD inline bool wide_pays(int64_t rows, int64_t depth, int64_t columns, int64_t least_products) {
  return rows >= 2048 || rows * depth * columns >= least_products;
}

// The tile that leaves least empty, the largest of them.
ARDIFF_HD inline int wide_tile_rows(int64_t rows) {
  int best = 64;
  int64_t fewest = INT64_MAX;
  for (const int tile : {64, 96, 128, kMostTileRows}) {
    const int64_t padded = (rows + tile - 1) / tile * tile;
    if (padded <= fewest) {
      fewest = padded;
      best = tile;
    }
  }
  return best;
}

}  // namespace ardiff::cuda
