// What a block of linear_wide.cu has: threads, shared memory, tiles.
#pragma once

#include "backend/cuda/elements.cuh"
#include "backend/cuda/product_after.cuh"
#include "backend/cuda/weight_layout.cuh"

namespace ardiff::cuda::wide {

constexpr int kGroups = 2;  // warpgroups that multiply
constexpr int kGroupFeatures = 64;
constexpr int kBlockFeatures = kGroups * kGroupFeatures;
constexpr int kBlockTiles = kBlockFeatures / kTileFeatures;
constexpr int kMultiplying = kGroups * 128;  // threads
constexpr int kAsking = 4;                   // warps that ask for pieces: a warpgroup, as registers are given to whole ones
constexpr int kAskingWeights = kAsking - 1;  // and the last for rows, which may not be there yet
constexpr int kStoring = 128;                // threads, where storing is not left to those that multiply
constexpr int kHalves = 2;
constexpr int kStageSteps = 2;
constexpr int kStageWeights = kBlockTiles * kStageSteps * kTileBytes;
constexpr int kMostShared = 227 << 10;

// kTileRows of a tile. kWithStorers: whether warps of their own store. kNeighbours: blocks of a cluster that have the same half of the
// depth and features beside each other; rows come to all of them at once.
template <int kTileRows, bool kWithStorers, int kNeighbours>
struct Shape {
  static constexpr int kRows = kTileRows, kBeside = kNeighbours, kCluster = kHalves * kBeside;
  static constexpr bool kStorers = kWithStorers;
  static constexpr int kSums = kRows / 2;                    // of a thread
  static constexpr int kShare = kSums / 2;                   // of them, those that this block finishes, and those that it sends
  static constexpr int kStepBytes = kRows * kStepDepth * 2;  // of rows
  static constexpr int kStageBytes = kStageWeights + kStageSteps * kStepBytes;
  static constexpr int kShareBytes = kShare * kMultiplying * 4;
  // What comes from the other block; behind it, own sums for storers.
  static constexpr int kExchangeBytes = (kStorers ? 2 : 1) * kShareBytes;
  static constexpr int kStages = (kMostShared - kExchangeBytes - 1024) / kStageBytes;
  static constexpr int kSharedBytes = kStages * kStageBytes + kExchangeBytes;

  static constexpr int kThreads = kMultiplying + kAsking * 32 + (kStorers ? kStoring : 0);
  // Of a thread that multiplies, asks, stores: together what kThreads have of 65536.
  static constexpr int kRegisters = kStorers ? 208 : 232, kAskRegisters = 40, kStoreRegisters = 56;
};

// Tiles of results, kBlockFeatures of each neighbour by rows of a tile, those of the same features one after the other; behind `whole` of
// them tiles of half as many features, of which the second warpgroup has none.
struct Tiles {
  int rows, whole, count;  // tiles of rows; whole tiles; all
};

struct Tile {
  int first, features;  // tiles of features: the first one, or with pairs the first of as many in pairs; how many
  int rows;             // tile of rows
};

// A block's place in its cluster: the half of the depth, and which of the neighbours it is.
template <typename S>
struct Place {
  __device__ static int rank() { return static_cast<int>(blockIdx.x) % S::kCluster; }
  __device__ static int half() { return rank() % kHalves; }
  __device__ static int neighbour() { return rank() / kHalves; }
  __device__ static int rank_of_other_half() { return rank() ^ 1; }
  __device__ static int rank_of_neighbour(int i) { return i * kHalves + half(); }

  // Tiles of a cluster, one after the other.
  __device__ static int first_tile() { return static_cast<int>(blockIdx.x) / S::kCluster; }
  __device__ static int tile_step() { return static_cast<int>(gridDim.x) / S::kCluster; }
  // The block's part of a tile.
  __device__ static Tile tile(const Tiles& tiles, int i) {
    constexpr int kHalf = kBlockTiles / 2;
    if (i < tiles.whole) return {(i / tiles.rows * S::kBeside + neighbour()) * kBlockTiles, kBlockTiles, i % tiles.rows};
    return {tiles.whole * S::kBeside * kBlockTiles + ((i - tiles.whole) * S::kBeside + neighbour()) * kHalf, kHalf, 0};
  }
};

// The f-th feature tile of a tile.
__device__ inline int feature_tile_of(const ProductAfter& after, const Tile& tile, int f) {
  if (!after.in_pairs()) return tile.first + f;
  const int half = tile.features / 2;
  return after.pairs.first(tile.first / 2 + f % half) + (f < half ? 0 : after.pairs.tiles);
}

}  // namespace ardiff::cuda::wide
