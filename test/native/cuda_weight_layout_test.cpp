// The layout of bf16 weights on the cuda backend, on the host: every weight has a place of its own, and a lane's 16 bytes are the
// operand that mma.sync m16n8k16 wants from it beside 16 bytes of a row of activations.
#include <gtest/gtest.h>

#include <set>

#include "backend/cuda/weight_layout.cuh"

namespace ardiff::cuda {
namespace {

TEST(CudaWeightLayout, EveryWeightHasItsOwnPlace) {
  const int64_t features = 48, steps = 3, depth = steps * kStepDepth;
  std::set<int64_t> places;
  for (int64_t n = 0; n < features; ++n) {
    for (int64_t k = 0; k < depth; ++k) places.insert(weight_place(n, k, steps));
  }
  EXPECT_EQ(places.size(), static_cast<size_t>(features * depth));
  EXPECT_EQ(*places.begin(), 0);
  EXPECT_EQ(*places.rbegin(), features * depth - 1);
  EXPECT_GT(weight_place(200'000, 13'823, 432), int64_t{1} << 31);  // beyond 32 bits
}

// PTX, m16n8k16 .bf16: of a, register r of lane l holds rows l / 4 + 8 (r % 2) and depths 2 (l % 4) + 8 (r / 2) + {0, 1}; of b,
// register r holds depths 2 (l % 4) + 8 r + {0, 1}. The kernels give b in half h the words 2 h and 2 h + 1 of the eight numbers
// 8 (l % 4) ... of the row, so depth 2 t + 8 r + j of the product is number 8 t + 4 h + 2 r + j of the step.
TEST(CudaWeightLayout, ALanesPieceIsItsOperand) {
  const int64_t steps = 5;
  for (const int64_t tile : {0, 3}) {
    for (int64_t step = 0; step < steps; ++step) {
      for (int half = 0; half < 2; ++half) {
        for (int lane = 0; lane < 32; ++lane) {
          const int64_t piece = ((tile * steps + step) * 2 + half) * 32 + lane;
          for (int r = 0; r < 4; ++r) {
            for (int j = 0; j < 2; ++j) {
              const int64_t feature = tile * kTileFeatures + lane / 4 + 8 * (r % 2);
              const int64_t k = step * kStepDepth + 8 * (lane % 4) + 4 * half + 2 * (r / 2) + j;
              EXPECT_EQ(weight_place(feature, k, steps), piece * 8 + 2 * r + j) << "lane " << lane << " register " << r;
            }
          }
        }
      }
    }
  }
}

TEST(CudaWeightLayout, SlicesFollowEachOtherAndCoverTheDepth) {
  for (int steps = 1; steps < 500; ++steps) {
    EXPECT_EQ(slice_begin(steps, 0), 0);
    EXPECT_EQ(slice_begin(steps, kSlices), steps);
    for (int slice = 0; slice < kSlices; ++slice) {
      const int length = slice_begin(steps, slice + 1) - slice_begin(steps, slice);
      EXPECT_GE(length, steps / kSlices);
      EXPECT_LE(length, (steps + kSlices - 1) / kSlices);
    }
  }
}

}  // namespace
}  // namespace ardiff::cuda
