// What the kernel for few rows makes beside the product itself. Plain C++ too: cuda_index_test runs it on the host.
#pragma once

#include <cstdint>

#include "backend/cuda/weight_layout.cuh"
#include "backend/host_device.h"

namespace ardiff::cuda {

// Where rows are gathered and rounded, every block of a product does so for itself, in shared memory: rows are small, so that two blocks
// still share a multiprocessor. (Norms are not made again by each block: on an H100 a launch of their own took less or as long.)
constexpr int64_t kMostOwnBytes = int64_t{50} << 10;

// Elements from row to row: whole 64 bytes and an odd number of them, so that the rows of a warp's load are in different banks.
ARDIFF_HD inline int64_t own_row_stride(int64_t depth) { return depth / 32 % 2 == 0 ? depth + 32 : depth; }
inline int64_t own_rows_bytes(int64_t rows, int64_t depth) { return rows * own_row_stride(depth) * 2; }
inline bool own_rows_fit(int64_t rows, int64_t depth) { return own_rows_bytes(rows, depth) <= kMostOwnBytes; }

// Feature tiles of a block that needs features in pairs, (n, n + distance): within a group of 2 `tiles` tiles, each with the one that is
// `tiles` after it. [gate | up] is one group; of [q | k | v] every head is.
struct TilePairs {
  int tiles;
  ARDIFF_HD int first(int block) const { return block / tiles * 2 * tiles + block % tiles; }
};

}  // namespace ardiff::cuda
