// What the kernel for few rows makes beside the product itself, and when. Plain C++ too: cuda_index_test runs it on the host.
#pragma once

#include <cstdint>

#include "backend/host_device.h"

namespace ardiff::cuda {

// Every block of a product makes its own copy of the rows, in shared memory: rows are few, as their norm is made again by each block,
// and small, so that two blocks still share a multiprocessor. The same bits either way, so these are for speed alone; no device has
// judged them.
constexpr int64_t kMostNormedRows = 16;
constexpr int64_t kMostNormedBytes = int64_t{50} << 10;

// Elements from row to row: whole 64 bytes and an odd number of them, so that the rows of a warp's load are in different banks.
ARDIFF_HD inline int64_t own_row_stride(int64_t depth) { return depth / 32 % 2 == 0 ? depth + 32 : depth; }
inline int64_t own_rows_bytes(int64_t rows, int64_t depth) { return rows * own_row_stride(depth) * 2; }

// Rows that are rounded and not normed cost a block next to nothing.
inline bool own_rows_fit(int64_t rows, int64_t depth) { return own_rows_bytes(rows, depth) <= kMostNormedBytes; }
inline bool norms_own_rows(int64_t rows, int64_t depth) { return rows <= kMostNormedRows && own_rows_fit(rows, depth); }

// Feature tiles of a block that needs features in pairs, (n, n + distance): within a group of 2 `tiles` tiles, each with the one that is
// `tiles` after it. [gate | up] is one group; of [q | k | v] every head is.
struct TilePairs {
  int tiles;
  ARDIFF_HD int first(int block) const { return block / tiles * 2 * tiles + block % tiles; }
};

}  // namespace ardiff::cuda
