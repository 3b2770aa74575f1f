// Where bf16 weights of a linear layer lie, so that a warp reads the operand of one tensor core product in one coalesced load of 16
// bytes a lane, straight from memory to registers, and its activations as 16 bytes of a row as it is.
//
// Pieces of 16 features by 32 of depth, those of one feature tile one after the other: [feature tile][step][half][lane][8]. The
// operand of mma m16n8k16 gives lane l the rows l / 4 and l / 4 + 8 and depths 2 (l % 4) + {0, 1, 8, 9}. Which number of a row
// stands at which depth is free as long as weights and activations agree: here lane l % 4 = t has the eight numbers 8 t ... 8 t + 7
// of the step, the first four in the first product (half 0), the others in the second.
#pragma once

#include <cstdint>

#include "backend/host_device.h"

namespace ardiff::cuda {

constexpr int kTileFeatures = 16;
constexpr int kStepDepth = 32;
constexpr int kTileBytes = kTileFeatures * kStepDepth * 2;
constexpr int kPaddedFeatures = 32;  // features are padded to whole pairs of tiles, which a block of linear_few.cu reads

// The sums of a result are made in kSlices parts of the depth, each a chain of products in order. The parts of either half are added in
// order, from zero on, then the halves. The same everywhere, whoever computes the parts.
constexpr int kSlices = 8;
constexpr int kSlicesOfHalf = kSlices / 2;

// First step of a slice; slice == kSlices gives the end.
ARDIFF_HD inline int slice_begin(int steps, int slice) { return static_cast<int>(static_cast<int64_t>(steps) * slice / kSlices); }

// Place of weight[feature][k] in elements.
ARDIFF_HD inline int64_t weight_place(int64_t feature, int64_t k, int64_t steps) {
  const int64_t tile = feature / kTileFeatures, step = k / kStepDepth;
  const int row = static_cast<int>(feature % kTileFeatures), inside = static_cast<int>(k % kStepDepth);
  const int half = inside % 8 / 4, lane = row % 8 * 4 + inside / 8;
  // Registers of the operand: row l / 4, row l / 4 + 8, then both again eight deeper.
  const int element = (inside % 4 / 2 * 2 + row / 8) * 2 + inside % 2;
  return (((tile * steps + step) * 2 + half) * 32 + lane) * 8 + element;
}

}  // namespace ardiff::cuda
