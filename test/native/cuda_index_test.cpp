// The index arithmetic of the CUDA kernels, which is plain C++ too, against loops that say the same more plainly.
#include <gtest/gtest.h>

#include <set>
#include <vector>

#include "backend/cuda/cache_index.cuh"
#include "backend/cuda/conv_index.cuh"
#include "backend/cuda/few_rows.h"
#include "backend/cuda/wide_rows.h"
#include "backend/cuda/patch_index.cuh"
#include "backend/patches.h"

namespace ardiff::cuda {
namespace {

TEST(CudaIndex, EveryTapOfEveryOutputPixelReadsItsPixelOrNone) {
  constexpr int64_t kImages = 3, kChannels = 5;
  for (const int kernel : {1, 3}) {
    for (const int stride : {1, 2}) {
      for (const int doubling : {0, 1}) {
        if (stride == 2 && (kernel == 1 || doubling == 1)) continue;  // nothing of the kind
        for (const auto& [height, width] : {std::pair{1, 1}, {2, 3}, {7, 4}, {8, 8}}) {
          if (stride == 2 && (height < 2 || width < 2)) continue;
          const int pad = stride == 2 ? 0 : (kernel - 1) / 2;
          const int out_height = stride == 2 ? (height - 2) / 2 + 1 : height << doubling, out_width = stride == 2 ? (width - 2) / 2 + 1 : width << doubling;
          const ConvShape shape{height, width, out_height, out_width, kernel, stride, pad, doubling, kChannels};
          int64_t m = 0;
          for (int64_t image = 0; image < kImages; ++image) {
            for (int i = 0; i < out_height; ++i) {
              for (int j = 0; j < out_width; ++j, ++m) {
                const Window window = conv_window(shape, m);
                for (int a = 0; a < kernel; ++a) {
                  for (int b = 0; b < kernel; ++b) {
                    const int row = i * stride + a - pad, column = j * stride + b - pad;  // of the (doubled) picture
                    const bool inside = row >= 0 && row < (height << doubling) && column >= 0 && column < (width << doubling);
                    const int64_t pixel = (image * height + row / (1 << doubling)) * width + column / (1 << doubling);
                    ASSERT_EQ(tap_offset(shape, window, a, b), inside ? pixel * kChannels : -1)
                        << height << "x" << width << ", kernel " << kernel << ", stride " << stride << ": row " << m << ", tap " << a << " " << b;
                  }
                }
              }
            }
          }
        }
      }
    }
  }
}

TEST(CudaIndex, OffsetsPassTwoToThe31) {
  const ConvShape shape{4096, 4096, 4096, 4096, 1, 1, 0, 0, 512};
  const int64_t last = int64_t{2} * 4096 * 4096 - 1;
  EXPECT_EQ(tap_offset(shape, conv_window(shape, last), 0, 0), last * 512);
  const CacheShape cache{8, 16, 128};
  const int32_t slot = (1 << 30) + 5;
  EXPECT_EQ(slot_offset(cache, slot, 7), ((int64_t{slot / 16} * 8 + 7) * 16 + slot % 16) * 128);
}

TEST(CudaIndex, BlocksOfPairsHaveEveryTileOnce) {
  for (const int tiles : {1, 2, 3, 4, 864}) {
    std::set<int> seen;
    const int groups = tiles < 10 ? 5 : 1;
    for (int block = 0; block < groups * tiles; ++block) {
      const int first = TilePairs{tiles}.first(block);
      EXPECT_EQ(first / (2 * tiles), (first + tiles) / (2 * tiles)) << "a pair of two groups";
      EXPECT_TRUE(seen.insert(first).second && seen.insert(first + tiles).second) << "block " << block << " of " << tiles;
    }
    EXPECT_EQ(*seen.rbegin(), groups * 2 * tiles - 1);
  }
}

// A warp's load of 16 bytes a lane comes in turns of eight lanes: four pieces of each of two rows, in 32 banks of four bytes.
TEST(CudaIndex, OwnRowsAreInDifferentBanks) {
  for (int64_t depth = 32; depth <= 14000; depth += 32) {
    const int64_t stride = own_row_stride(depth);
    ASSERT_GE(stride, depth);
    ASSERT_EQ(stride * 2 % 16, 0);
    ASSERT_EQ(stride * 2 / 4 % 32, 16) << depth;
  }
}

TEST(CudaIndex, PositionsFollowTheBlockTable) {
  const std::vector<int32_t> table = {4, 0, 9};
  const CacheShape cache{3, 5, 7};
  for (int32_t p = 0; p < 15; ++p) {
    for (int head = 0; head < 3; ++head) {
      const int64_t block = table[static_cast<size_t>(p / 5)];
      const int64_t expected = ((block * 3 + head) * 5 + p % 5) * 7;
      EXPECT_EQ(position_offset(cache, table.data(), p, head), expected);
      EXPECT_EQ(slot_offset(cache, static_cast<int32_t>(block * 5 + p % 5), head), expected);
    }
  }
}

TEST(CudaIndex, PairsOfQkvCoverEveryColumnOnce) {
  constexpr int kQueryHeads = 6, kKvHeads = 2, kHeadDim = 18;
  std::set<int64_t> columns;
  for (int64_t i = 0; i < (kQueryHeads + 2 * kKvHeads) * kHeadDim / 2; ++i) {
    const QkvPair pair = qkv_pair(i, kQueryHeads, kKvHeads, kHeadDim);
    ASSERT_LT(pair.j, kHeadDim / 2);
    const int first = pair.part == QkvPair::Part::kQuery ? 0 : pair.part == QkvPair::Part::kKey ? kQueryHeads : kQueryHeads + kKvHeads;
    ASSERT_LT(pair.head, pair.part == QkvPair::Part::kQuery ? kQueryHeads : kKvHeads);
    EXPECT_EQ(pair.column, (first + pair.head) * kHeadDim + pair.j);
    EXPECT_TRUE(columns.insert(pair.column).second);
    EXPECT_TRUE(columns.insert(pair.column + kHeadDim / 2).second);
  }
  EXPECT_EQ(columns.size(), size_t{(kQueryHeads + 2 * kKvHeads) * kHeadDim});
  EXPECT_EQ(*columns.rbegin(), (kQueryHeads + 2 * kKvHeads) * kHeadDim - 1);
}

TEST(CudaIndex, PatchesAreThoseOfTheHost) {
  for (const auto& [height, width, channels, patch] : {std::array<int64_t, 4>{4, 6, 3, 2}, {3, 5, 4, 1}, {8, 4, 1, 4}}) {
    const TensorView z(nullptr, DType::kF32, {1, height, width, channels});
    int64_t next = 0;
    for_each_patch_element(z, patch, [&, p = patch, w = width, c = channels](int64_t token, int64_t column, int64_t element) {
      EXPECT_EQ(element, next++);
      const PatchElement found = patch_element({static_cast<int>(w), static_cast<int>(c), static_cast<int>(p)}, element);
      EXPECT_EQ(found.token, token);
      EXPECT_EQ(found.column, column);
    });
    EXPECT_EQ(next, height * width * channels);
  }
}

TEST(CudaIndex, WideTilesLeaveAsLittleEmptyAsAnyOfThem) {
  for (int64_t rows = 33; rows <= 2000; ++rows) {
    const int64_t tile = cuda::wide_tile_rows(rows), empty = (rows + tile - 1) / tile * tile - rows;
    for (const int64_t other : {64, 96, 128, 160}) {
      const int64_t of_other = (rows + other - 1) / other * other - rows;
      EXPECT_TRUE(empty < of_other || (empty == of_other && tile >= other)) << rows << " rows in tiles of " << tile << " and of " << other;
    }
  }
}

}  // namespace
}  // namespace ardiff::cuda
