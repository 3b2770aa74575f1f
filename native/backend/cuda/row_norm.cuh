// Norms of rows, for both kernels that make them, with the same bits in whichever kernel and beside whichever rows: every step is rounded
// by itself, and sums are made in one order. Part t of kBlock has columns 4 t to 4 t + 3, and those 4 kBlock, 8 kBlock ... further, added
// in the order of the columns; parts that are multiples of 32 apart are added in their order, then those 32 sums in a butterfly. A thread
// has one part where a block makes a row, and a lane has eight where a warp does (kept_row.cuh).
#pragma once

#include "backend/cuda/elements.cuh"
#include "backend/ops.h"

namespace ardiff::cuda {

struct RowNormTask {
  enum class Kind { kRms, kLayer };
  Kind kind;
  const float* x;
  int64_t x_stride;
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

  __device__ const float* row(int64_t m) const { return x + m * x_stride; }
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
__device__ inline float inverse_root(float sum, const RowNormTask& a) {
  return __fdiv_rn(1.0f, __fsqrt_rn(__fadd_rn(mean_of(sum, a), a.eps)));
}

// The sum of a row whose parts the kBlock threads have, the same in all of them. of_parts is free again on return.
__device__ inline float sum_parts(float part, float (&of_parts)[kBlock]) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  of_parts[threadIdx.x] = part;
  __syncthreads();
  float sum = of_parts[lane];
#pragma unroll
  for (int first = 32; first < kBlock; first += 32) sum = __fadd_rn(sum, of_parts[first + lane]);
  sum = warp_sum(sum);
  __syncthreads();
  return sum;
}

// Row m to `to` by all threads of a block, read again for each pass. of_parts: shared memory.
template <bool kByFour, typename T>
__device__ inline void norm_row(const RowNormTask& a, int64_t m, T* to, float (&of_parts)[kBlock]) {
  const int begin = 4 * static_cast<int>(threadIdx.x);
  const float* const row = a.row(m);
  float mean = 0.0f, factor = 0.0f;
  if (a.kind == RowNormTask::Kind::kLayer) {
#pragma unroll 2
    for (int c = begin; c < a.width; c += 4 * kBlock) {
      float x[4];
      load_four<kByFour>(row, c, a.width, x);
      add_four(x, mean);
    }
    mean = mean_of(sum_parts(mean, of_parts), a);
  }
#pragma unroll 2
  for (int c = begin; c < a.width; c += 4 * kBlock) {
    float x[4];
    load_four<kByFour>(row, c, a.width, x);
    add_squares_of_four<kByFour>(x, mean, c, a.width, factor);
  }
  factor = inverse_root(sum_parts(factor, of_parts), a);
#pragma unroll 1
  for (int c = begin; c < a.width; c += 4 * kBlock) {
    NormParameters p;
    p.load_weights<kByFour>(a, c);
    p.load_others<kByFour>(a, m, c);
    float x[4];
    load_four<kByFour>(row, c, a.width, x);
    norm_four(a, p, mean, factor, x);
    store_four<kByFour>(to, c, a.width, x);
  }
}

}  // namespace ardiff::cuda
