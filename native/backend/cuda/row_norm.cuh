// Norms of rows, for every kernel that makes them, with the same bits in whichever kernel and beside whichever rows: every step is rounded by
// itself, and sums are made in one order. Part t of kBlock has columns 4 t to 4 t + 3, and those 4 kBlock, 8 kBlock ... further, added in the
// order of the columns; parts that are multiples of 32 apart are added in their order, then those 32 sums in a butterfly. A thread has one
// part where a block makes a row, and a lane has eight where a warp does (kept_row.cuh).
#pragma once

#include "backend/cuda/elements.cuh"
#include "backend/ops.h"

namespace ardiff::cuda {

struct RowNormTask {
  enum class Kind { kRound, kRms, kLayer };  // kRound: rows as they are, which is no norm
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
  bool by_four;  // all that is read lies at whole 16 bytes in groups of four columns

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
  out.by_four = out.width % 4 == 0 && lies_by_four(out.x, out.x_stride) && lies_by_four(out.w, 0) && lies_by_four(out.b, 0) &&
                lies_by_four(out.scale, out.scale_stride) && lies_by_four(out.shift, out.shift_stride);
  return out;
}

// Columns c to c + 3 of a row; zeros behind its end.
template <bool kByFour>
__device__ inline void load_four(const float* row, int c, int width, float (&to)[4]) {
  if constexpr (kByFour) {
    load_elements<4>(row + c, to);
  } else {
#pragma unroll
    for (int e = 0; e < 4; ++e) to[e] = c + e < width ? row[c + e] : 0.0f;
  }
}

template <bool kByFour, typename T>
__device__ inline void store_four(T* row, int c, int width, const float (&from)[4]) {
  if constexpr (kByFour) {
    store_elements<4>(row + c, from);
  } else {
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      if (c + e < width) row[c + e] = from_float<T>(from[e]);
    }
  }
}

// What four columns of a row are multiplied and shifted by.
struct NormParameters {
  float w[4] = {}, b[4] = {}, scale[4] = {}, shift[4] = {};

  // All that an rms norm has.
  template <bool kByFour>
  __device__ void load_weights(const RowNormTask& a, int c) {
    if (a.w != nullptr) load_four<kByFour>(a.w, c, a.width, w);
  }
  template <bool kByFour>
  __device__ void load_others(const RowNormTask& a, int64_t m, int c) {
    if (a.b != nullptr) load_four<kByFour>(a.b, c, a.width, b);
    if (a.scale == nullptr) return;
    const int64_t t = a.modulation_rows != nullptr ? a.modulation_rows[m] : m;
    load_four<kByFour>(a.scale + t * a.scale_stride, c, a.width, scale);
    load_four<kByFour>(a.shift + t * a.shift_stride, c, a.width, shift);
  }
};

// The steps, for four columns.
__device__ inline void add_four(const float (&x)[4], float& sum) {
#pragma unroll
  for (int e = 0; e < 4; ++e) sum = __fadd_rn(sum, x[e]);
}
template <bool kByFour>
__device__ inline void add_squares_of_four(const float (&x)[4], float mean, int c, int width, float& sum) {
#pragma unroll
  for (int e = 0; e < 4; ++e) {
    if (!kByFour && c + e >= width) break;
    const float d = __fsub_rn(x[e], mean);  // an rms norm's mean is 0, which changes no bit that is squared
    sum = __fmaf_rn(d, d, sum);
  }
}
__device__ inline void norm_four(const RowNormTask& a, const NormParameters& p, float mean, float factor, float (&x)[4]) {
#pragma unroll
  for (int e = 0; e < 4; ++e) {
    if (a.kind == RowNormTask::Kind::kRms) {
      x[e] = __fmul_rn(__fmul_rn(x[e], factor), p.w[e]);
      continue;
    }
    x[e] = __fmul_rn(__fsub_rn(x[e], mean), factor);
    if (a.w != nullptr) x[e] = __fmaf_rn(x[e], p.w[e], p.b[e]);
    if (a.scale != nullptr) x[e] = __fmaf_rn(x[e], __fadd_rn(1.0f, p.scale[e]), p.shift[e]);
  }
}

__device__ inline float mean_of(float sum, const RowNormTask& a) { return __fdiv_rn(sum, static_cast<float>(a.width)); }
// 1 / sqrt(sum / width + eps)
__device__ inline float inverse_root(float sum, const RowNormTask& a) { return __fdiv_rn(1.0f, __fsqrt_rn(__fadd_rn(mean_of(sum, a), a.eps))); }

// Sums of rows whose parts the kBlock threads have, the same in all of them. of_parts is free again on return.
template <int kRows>
__device__ inline void sum_parts(float (&sums)[kRows], float (*of_parts)[kBlock]) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int r = 0; r < kRows; ++r) of_parts[r][threadIdx.x] = sums[r];
  __syncthreads();
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    sums[r] = of_parts[r][lane];
#pragma unroll
    for (int part = 32; part < kBlock; part += 32) sums[r] = __fadd_rn(sums[r], of_parts[r][part + lane]);
    sums[r] = warp_sum(sums[r]);
  }
  __syncthreads();
}

// Rows first ... first + kRows - 1 by all threads of a block, read again for each pass: row first + r to to(r). of_parts: shared memory, [kRows].
template <int kRows, bool kByFour, typename To>
__device__ inline void norm_rows(const RowNormTask& a, int64_t first, float (*of_parts)[kBlock], To&& to) {
  constexpr int kUnroll = 2 / kRows;  // loads under way: one thread has columns of every row
  const int begin = 4 * static_cast<int>(threadIdx.x);
  const float* rows[kRows];
  float mean[kRows] = {}, factor[kRows] = {};
#pragma unroll
  for (int r = 0; r < kRows; ++r) rows[r] = a.row(first + r);
  if (a.kind == RowNormTask::Kind::kLayer) {
#pragma unroll kUnroll
    for (int c = begin; c < a.width; c += 4 * kBlock) {
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        float x[4];
        load_four<kByFour>(rows[r], c, a.width, x);
        add_four(x, mean[r]);
      }
    }
    sum_parts<kRows>(mean, of_parts);
#pragma unroll
    for (int r = 0; r < kRows; ++r) mean[r] = mean_of(mean[r], a);
  }
#pragma unroll kUnroll
  for (int c = begin; c < a.width; c += 4 * kBlock) {
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      float x[4];
      load_four<kByFour>(rows[r], c, a.width, x);
      add_squares_of_four<kByFour>(x, mean[r], c, a.width, factor[r]);
    }
  }
  sum_parts<kRows>(factor, of_parts);
#pragma unroll
  for (int r = 0; r < kRows; ++r) factor[r] = inverse_root(factor[r], a);
#pragma unroll 1
  for (int c = begin; c < a.width; c += 4 * kBlock) {
    NormParameters p;
    p.load_weights<kByFour>(a, c);
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      float x[4];
      load_four<kByFour>(rows[r], c, a.width, x);
      p.load_others<kByFour>(a, first + r, c);
      norm_four(a, p, mean[r], factor[r], x);
      store_four<kByFour>(to(r), c, a.width, x);
    }
  }
}

}  // namespace ardiff::cuda
