// The end of a tile of linear_wide.cu: the two blocks of a cluster have the sums of one half of the depth each, for all rows; either sends
// the other those of half of the rows, adds what it gets to its own and stores the results, or hands both to warps that do.
#pragma once

#include "backend/cuda/bulk_copy.cuh"
#include "backend/cuda/linear.cuh"
#include "backend/cuda/product_after.cuh"
#include "backend/cuda/wide_tiles.cuh"

namespace ardiff::cuda::wide {

template <typename S>
struct Finish {
  static constexpr int kRows = S::kRows;
  static constexpr bool kStorers = S::kStorers;
  static constexpr int kFinishing = kStorers ? kStoring : kMultiplying;  // threads

  // (kShare / 4, kMultiplying), a warp's threads by lane % 4, then lane / 4: written by the other block; behind them, own sums for storers.
  float4* exchange;
  uint64_t *given, *taken;      // the other block's sums are in exchange; the other has read those that it was given
  uint64_t *summed, *finished;  // storers: own sums are there; they have been read
  int half;                     // of the depth, and of the rows that this block stores

  __device__ void init() const {
    init_barrier(given, 1);
    init_barrier(taken, kFinishing);
    if constexpr (kStorers) {
      init_barrier(summed, kMultiplying);
      init_barrier(finished, kFinishing);
    }
  }

  // By those that multiply, with their sums of a tile. turn: tiles before.
  __device__ void hand_over(int turn, const float (&total)[S::kSums]) const {
    const int thread = static_cast<int>(threadIdx.x);
    float4* const mine = exchange + thread / 32 * 32 + thread % 4 * 8 + thread / 4 % 8;
    const uint32_t there = address_in_block(mine, Place<S>::rank_of_other_half()),
                   given_there = address_in_block(given, Place<S>::rank_of_other_half());
    if (!kStorers && thread == 0) arrive_expecting(given, S::kShareBytes);
    // Sums of rows of the half `of`, four at a time.
    const auto sums = [&](int i, int of) {
      const auto at = [&](int n) { return of == 0 ? total[n] : total[S::kShare + n]; };
      return make_float4(at(i), at(i + 1), at(i + 2), at(i + 3));
    };
    wait_phase(taken, (turn + 1) % 2);
#pragma unroll
    for (int i = 0; i < S::kShare; i += 4)
      send_to_block(there + static_cast<uint32_t>(i / 4 * kMultiplying * sizeof(float4)), sums(i, 1 - half), given_there);
    if constexpr (kStorers) {
      wait_phase(finished, (turn + 1) % 2);
#pragma unroll
      for (int i = 0; i < S::kShare; i += 4) mine[(S::kShare + i) / 4 * kMultiplying] = sums(i, half);
      arrive(summed);
    } else {
      wait_phase(given, turn % 2);
#pragma unroll
      for (int i = 0; i < S::kShare; i += 4) {
        float4& others = mine[i / 4 * kMultiplying];
        const float4 own = sums(i, half);
        others =
            make_float4(__fadd_rn(own.x, others.x), __fadd_rn(own.y, others.y), __fadd_rn(own.z, others.z), __fadd_rn(own.w, others.w));
      }
      sync_some<kMultiplying>();
    }
  }

  // By kFinishing threads, `thread` of them, after hand_over, or beside it.
  __device__ void store_tile(const LinearTask& t, const ProductAfter& after, const Tile& tile, int turn, int thread) const {
    if constexpr (kStorers) {
      if (thread == 0) arrive_expecting(given, S::kShareBytes);
      wait_phase(given, turn % 2);
      wait_phase(summed, turn % 2);
    }
    if (after.in_pairs()) {
      store_pairs(t, after, tile, thread);
    } else {
      store(t, tile, thread);
    }
    arrive_in_block(address_in_block(taken, Place<S>::rank_of_other_half()));
    if constexpr (kStorers) arrive(finished);
  }

  // Of both halves of the depth: feature of the tile, row of this block's half.
  __device__ float sum_of(int feature, int row) const {
    const int at = row / 8 * kMultiplying + feature / 16 * 32 + row % 8 / 2 * 8 + feature % 8, number = feature % 16 / 8 * 2 + row % 2;
    const auto* const sums = reinterpret_cast<const float*>(exchange + at) + number;
    return kStorers ? __fadd_rn(sums[0], sums[S::kShare * kMultiplying]) : sums[0];
  }

  // As y lies, a thread one feature.
  __device__ void store(const LinearTask& t, const Tile& tile, int thread) const {
    const int feature = thread % kBlockFeatures, n = tile.first * kTileFeatures + feature;
    if (feature >= tile.features * kTileFeatures || n >= t.columns) return;
    const float bias = t.bias[n];
    constexpr int kAtOnce = 8, kBeside = kFinishing / kBlockFeatures;
    static_assert(kRows / kHalves % (kAtOnce * kBeside) == 0);
    for (int first = thread / kBlockFeatures; first < kRows / kHalves; first += kAtOnce * kBeside) {
      const int64_t m = first_row(tile) + first;
      float befores[kAtOnce];  // asked for together: behind a store of the one before, each would be waited for
#pragma unroll
      for (int r = 0; r < kAtOnce; ++r) befores[r] = m + r * kBeside < t.rows ? before(t, m + r * kBeside, n) : 0.0f;
#pragma unroll
      for (int r = 0; r < kAtOnce; ++r) {
        if (m + r * kBeside < t.rows) finish(t, m + r * kBeside, n, sum_of(feature, first + r * kBeside), bias, befores[r]);
      }
    }
  }

  // A thread one pair of features.
  __device__ void store_pairs(const LinearTask& t, const ProductAfter& after, const Tile& tile, int thread) const {
    constexpr int kMostPairs = kBlockFeatures / 2, kBeside = kFinishing / kMostPairs;
    const int pair = thread % kMostPairs, pairs = tile.features * kTileFeatures / 2;
    const int n = feature_tile_of(after, tile, pair / kTileFeatures) * kTileFeatures + pair % kTileFeatures;
    if (pair >= pairs || n >= t.columns) return;
#pragma unroll 2
    for (int row = thread / kMostPairs; row < kRows / kHalves; row += kBeside) {
      const int64_t m = first_row(tile) + row;
      if (m < t.rows) finish_pair(t, after, m, n, sum_of(pair, row), sum_of(pair + pairs, row));
    }
  }

  __device__ int64_t first_row(const Tile& tile) const { return static_cast<int64_t>(tile.rows) * kRows + half * (kRows / kHalves); }
};

}  // namespace ardiff::cuda::wide
