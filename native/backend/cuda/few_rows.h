// What the kernel for few rows makes beside the product itself, and when. Plain C++ too: cuda_index_test runs it on the host.
#pragma once

#include <cstdint>

#include "backend/cuda/weight_layout.cuh"
#include "backend/host_device.h"

namespace ardiff::cuda {

// Every block of a product makes its own copy of the rows, in shared memory: rows are small, so that two blocks still share a
// multiprocessor. Rows that are rounded and not normed cost a block next to nothing.
constexpr int64_t kMostOwnBytes = int64_t{50} << 10;

// Elements from row to row: whole 64 bytes and an odd number of them, so that the rows of a warp's load are in different banks.
ARDIFF_HD inline int64_t own_row_stride(int64_t depth) { return depth / 32 % 2 == 0 ? depth + 32 : depth; }
inline int64_t own_rows_bytes(int64_t rows, int64_t depth) { return rows * own_row_stride(depth) * 2; }
inline bool own_rows_fit(int64_t rows, int64_t depth) { return own_rows_bytes(rows, depth) <= kMostOwnBytes; }

// A norm is made again by each block, which pays for very few rows and blocks. Against a launch of its own, by graphs on an H100
// (`cuda_bench together`, without and with dependent launches): the 14B's q k v, 224 blocks, 1.13 and 1.14 times as fast for one row, 1.10 and
// 1.13 for two; the flow head's up, 96 blocks, 1.09 and 1.04, and 0.99 and 1.03. Gate and up, 864 blocks: 0.98 for one row, 0.94 and 0.93
// for two. Four rows lose everywhere, 0.81 to 0.50. The same bits either way.
constexpr int64_t kMostNormedRows = 2;
constexpr int64_t kMostNormingBlocks = 256;

// Blocks of a product of so few rows, in pairs of feature tiles or one tile each.
inline int64_t norming_blocks(int64_t columns, bool pairs) {
  const int64_t features = (pairs ? 2 : 1) * kTileFeatures;
  return (columns + features - 1) / features;
}
inline bool norms_own_rows(int64_t rows, int64_t depth, int64_t blocks) {
  return rows <= kMostNormedRows && blocks <= kMostNormingBlocks && own_rows_fit(rows, depth);
}

// Feature tiles of a block that needs features in pairs, (n, n + distance): within a group of 2 `tiles` tiles, each with the one that is
// `tiles` after it. [gate | up] is one group; of [q | k | v] every head is.
struct TilePairs {
  int tiles;
  ARDIFF_HD int first(int block) const { return block / tiles * 2 * tiles + block % tiles; }
};

}  // namespace ardiff::cuda
