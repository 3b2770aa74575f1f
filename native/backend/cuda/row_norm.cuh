// Norms of rows, for every kernel that makes them: a row's sums come from kBlock threads in one tree and every step is rounded by
// itself, so a row has the same bits in whichever kernel and beside whichever rows.
#pragma once

#include "backend/cuda/elements.cuh"
#include "backend/ops.h"

namespace ardiff::cuda {

struct RowNormTask {
  enum class Kind { kRound, kRms, kLayer };  // kRound: rows as they are
  Kind kind;
  const float* x;
  int64_t x_stride;
  const int32_t* x_rows;  // the row of x for each row, or null: its own
  int64_t rows;
  int width;
  float eps;
  const float* w;  // (width) or null
  const float* b;  // (width) or null, with w
  // Modulation: null, or one row of (scale, shift) for each row, modulation_rows[m] or m.
  const float* scale;
  const float* shift;
  int64_t scale_stride;
  int64_t shift_stride;
  const int32_t* modulation_rows;

  __device__ const float* row(int64_t m) const { return x + (x_rows != nullptr ? x_rows[m] : m) * x_stride; }
};

inline RowNormTask row_norm_task(const TensorView& x, const RowNorm& norm) {
  RowNormTask out{};
  out.kind = norm.kind == RowNorm::Kind::kRms ? RowNormTask::Kind::kRms : RowNormTask::Kind::kLayer;
  out.x = floats(x);
  out.x_stride = x.row_stride;
  out.rows = x.rows();
  out.width = static_cast<int>(x.cols());
  out.eps = norm.eps;
  out.w = floats(norm.weight);
  out.b = floats(norm.bias);
  out.scale = floats(norm.scale);
  out.shift = floats(norm.shift);
  out.scale_stride = norm.scale.row_stride;
  out.shift_stride = norm.shift.row_stride;
  out.modulation_rows = indices(norm.modulation_rows);
  return out;
}

// Sums over the kBlock threads for `count` rows, the same in all of them. of_warps is free again on return.
template <int kRows>
__device__ inline void sum_rows(float (&sums)[kRows], int count, float (*of_warps)[kBlock / 32]) {
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    if (r >= count) break;
    const float of_warp = warp_sum(sums[r]);
    if (threadIdx.x % 32 == 0) of_warps[r][threadIdx.x / 32] = of_warp;
  }
  __syncthreads();
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    if (r >= count) break;
    sums[r] = of_warps[r][0];
#pragma unroll
    for (int w = 1; w < kBlock / 32; ++w) sums[r] = __fadd_rn(sums[r], of_warps[r][w]);
  }
  __syncthreads();
}

// 1 / sqrt(sum / width + eps)
__device__ inline float inverse_root(float sum, const RowNormTask& a) {
  return __fdiv_rn(1.0f, __fsqrt_rn(__fadd_rn(__fdiv_rn(sum, static_cast<float>(a.width)), a.eps)));
}

// Rows first ... first + count - 1, count at most kRows, by all threads of a block: store(r, c, value) for row first + r. of_warps: shared
// memory, [kRows].
template <int kRows, typename Store>
__device__ inline void norm_rows(const RowNormTask& a, int64_t first, int count, float (*of_warps)[kBlock / 32], Store&& store) {
  constexpr int kUnroll = 8 / kRows;  // loads under way: one thread has a column of every row
  const int begin = static_cast<int>(threadIdx.x);
  const float* rows[kRows];
  float mean[kRows] = {}, factor[kRows] = {};
#pragma unroll
  for (int r = 0; r < kRows; ++r) rows[r] = a.row(first + (r < count ? r : 0));
  if (a.kind == RowNormTask::Kind::kLayer) {
#pragma unroll kUnroll
    for (int c = begin; c < a.width; c += kBlock) {
#pragma unroll
      for (int r = 0; r < kRows; ++r) mean[r] = __fadd_rn(mean[r], rows[r][c]);
    }
    sum_rows<kRows>(mean, count, of_warps);
#pragma unroll
    for (int r = 0; r < kRows; ++r) mean[r] = __fdiv_rn(mean[r], static_cast<float>(a.width));
  }
  if (a.kind != RowNormTask::Kind::kRound) {
#pragma unroll kUnroll
    for (int c = begin; c < a.width; c += kBlock) {
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        const float d = __fsub_rn(rows[r][c], mean[r]);  // an rms norm's mean is 0, which changes no bit that is squared
        factor[r] = __fmaf_rn(d, d, factor[r]);
      }
    }
    sum_rows<kRows>(factor, count, of_warps);
#pragma unroll
    for (int r = 0; r < kRows; ++r) factor[r] = inverse_root(factor[r], a);
  }
#pragma unroll kUnroll
  for (int c = begin; c < a.width; c += kBlock) {
    const float w = a.w != nullptr ? a.w[c] : 1.0f, b = a.b != nullptr ? a.b[c] : 0.0f;
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      if (r >= count) break;
      float n = rows[r][c];
      if (a.kind == RowNormTask::Kind::kRms) n = __fmul_rn(__fmul_rn(n, factor[r]), w);
      if (a.kind == RowNormTask::Kind::kLayer) {
        n = __fmul_rn(__fsub_rn(n, mean[r]), factor[r]);
        if (a.w != nullptr) n = __fmaf_rn(n, w, b);
        if (a.scale != nullptr) {
          const int64_t t = a.modulation_rows != nullptr ? a.modulation_rows[first + r] : first + r;
          n = __fmaf_rn(n, __fadd_rn(1.0f, a.scale[t * a.scale_stride + c]), a.shift[t * a.shift_stride + c]);
        }
      }
      store(r, c, n);
    }
  }
}

}  // namespace ardiff::cuda
