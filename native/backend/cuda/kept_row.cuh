// A row's norm by a warp or a block that keeps the row in registers: each of its numbers is read once. The bits are those of norm_row.
#pragma once

#include "backend/cuda/row_norm.cuh"

namespace ardiff::cuda {

// Row m to `to`, both by four, of at most 4 kThreads kChunks columns, by all threads of a warp (kThreads 32) or block (kBlock). of_parts:
// shared memory of a block, or null.
template <int kThreads, int kChunks, typename T>
__device__ inline void norm_kept_row(const RowNormTask& a, int64_t m, T* to, float (*of_parts)[kBlock]) {
  static_assert(kThreads == 32 || kThreads == kBlock);
  constexpr bool kByBlock = kThreads == kBlock;
  constexpr int kParts = kBlock / kThreads;  // of a thread: chunk j belongs to part j % kParts
  // A warp has others beside it while it waits for memory. Of few rows a block has none: it asks for all at once, as far as registers go.
  constexpr bool kOthersAhead = kByBlock && kChunks <= 2;
  constexpr int kAtOnce = kByBlock ? 1 : 2, kHeld = kByBlock ? kChunks : kAtOnce;
  const int begin = 4 * static_cast<int>(threadIdx.x % kThreads);
  const auto column = [&](int j) { return begin + 4 * kThreads * j; };
  const float* const row = a.row(m);
  float x[kChunks][4];
  NormParameters p[kHeld];
#pragma unroll
  for (int j = 0; j < kChunks; ++j) {
    if (column(j) < a.width) load_four<true>(row, column(j), a.width, x[j]);
  }
  if constexpr (kByBlock) {
#pragma unroll
    for (int j = 0; j < kChunks; ++j) {
      if (column(j) >= a.width) break;
      p[j].template load_weights<true>(a, column(j));
      if constexpr (kOthersAhead) p[j].template load_others<true>(a, m, column(j));
    }
  }
  const auto sum = [&](auto&& add) {
    float parts[kParts] = {};
#pragma unroll
    for (int j = 0; j < kChunks; ++j) {
      if (column(j) < a.width) add(j, parts[j % kParts]);
    }
    if constexpr (kByBlock) {
      return sum_parts(parts[0], *of_parts);
    } else {
#pragma unroll
      for (int i = 1; i < kParts; ++i) parts[0] = __fadd_rn(parts[0], parts[i]);
      return warp_sum(parts[0]);
    }
  };
  float mean = 0.0f;
  if (a.kind == RowNormTask::Kind::kLayer) mean = mean_of(sum([&](int j, float& part) { add_four(x[j], part); }), a);
  const float factor = inverse_root(sum([&](int j, float& part) { add_squares_of_four<true>(x[j], mean, column(j), a.width, part); }), a);
#pragma unroll
  for (int first = 0; first < kChunks; first += kAtOnce) {
#pragma unroll
    for (int j = first; j < first + kAtOnce; ++j) {
      if (column(j) >= a.width) break;
      if constexpr (!kByBlock) p[j % kHeld].template load_weights<true>(a, column(j));
      if constexpr (!kOthersAhead) p[j % kHeld].template load_others<true>(a, m, column(j));
    }
#pragma unroll
    for (int j = first; j < first + kAtOnce; ++j) {
      if (column(j) >= a.width) break;
      norm_four(a, p[j % kHeld], mean, factor, x[j]);
      store_four<true>(to, column(j), a.width, x[j]);
    }
  }
}

}  // namespace ardiff::cuda
