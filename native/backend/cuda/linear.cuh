// One product of a linear layer as its kernels see it, and what happens to a result on its way into y.
#pragma once

#include "backend/cuda/cublas_lt_abi.h"
#include "backend/cuda/device.h"
#include "backend/cuda/silu.cuh"
#include "backend/cuda/weight_layout.cuh"
#include "backend/ops.h"

namespace ardiff::cuda {

struct LinearTask {
  const void* x;  // (rows, depth), rows x_stride elements apart
  int64_t x_stride;
  int64_t rows;
  int depth;    // bf16: a multiple of kStepDepth, zeros (of weights and x) from the layer's depth on
  int columns;  // output features
  const void* weight;
  const float* bias;  // (columns)
  void* y;
  int64_t y_stride;
  bool y_bf16;
  Epilogue::Kind kind;
  const float* gate;
  int64_t gate_stride;
  const int32_t* gate_rows;  // or null
};

// The sum of a result from those of its slices (weight_layout.cuh).
template <typename SumOfSlice>
__device__ float add_slices(const SumOfSlice& sum_of_slice) {
  float halves[2] = {0.0f, 0.0f};
#pragma unroll
  for (int s = 0; s < kSlices; ++s) halves[s / kSlicesOfHalf] = __fadd_rn(halves[s / kSlicesOfHalf], sum_of_slice(s));
  return __fadd_rn(halves[0], halves[1]);
}

// What y has where a result is added to it, else 0.
__device__ inline float before(const LinearTask& t, int64_t m, int n) {
  return t.kind == Epilogue::Kind::kAdd || t.kind == Epilogue::Kind::kGatedAdd ? static_cast<const float*>(t.y)[m * t.y_stride + n] : 0.0f;
}

// The gate of a row's results, or null.
__device__ inline const float* gate_of(const LinearTask& t, int64_t m) {
  if (t.kind != Epilogue::Kind::kGatedAdd) return nullptr;
  return t.gate + (t.gate_rows != nullptr ? static_cast<int64_t>(__ldg(t.gate_rows + m)) : m) * t.gate_stride;
}

// What y gets. Rounded one by one: a multiply-add that the compiler fuses in one kernel and not in another would give other bits.
__device__ inline float finished(Epilogue::Kind kind, float sum, float bias, float y_before, float gate) {
  const float r = __fadd_rn(sum, bias);
  switch (kind) {
    case Epilogue::Kind::kStore: return r;
    case Epilogue::Kind::kSilu: return silu(r);
    case Epilogue::Kind::kGelu: return __fmul_rn(__fmul_rn(0.5f, r), erfcf(__fmul_rn(r, -0.70710678f)));  // 1 + erf(v) without cancellation
    case Epilogue::Kind::kAdd: return __fadd_rn(y_before, r);
    case Epilogue::Kind::kGatedAdd: return __fmaf_rn(gate, r, y_before);
  }
  return r;
}

__device__ inline void finish(const LinearTask& t, int64_t m, int n, float sum, float bias, float y_before) {
  const float* const gate = gate_of(t, m);
  const float r = finished(t.kind, sum, bias, y_before, gate == nullptr ? 0.0f : __ldg(gate + n));
  if (t.y_bf16) {
    static_cast<bf16*>(t.y)[m * t.y_stride + n] = __float2bfloat16_rn(r);
  } else {
    static_cast<float*>(t.y)[m * t.y_stride + n] = r;
  }
}

__device__ inline void finish(const LinearTask& t, int64_t m, int n, float sum) { finish(t, m, n, sum, t.bias[n], before(t, m, n)); }

// Rows first to first + count of a task whose x is in bf16.
inline LinearTask rows_of(LinearTask t, int64_t first, int64_t count) {
  t.rows = count;
  t.x = static_cast<const bf16*>(t.x) + first * t.x_stride;
  t.y = static_cast<char*>(t.y) + first * t.y_stride * static_cast<int64_t>(t.y_bf16 ? sizeof(bf16) : sizeof(float));
  if (t.gate_rows != nullptr) {
    t.gate_rows += first;
  } else if (t.gate != nullptr) {
    t.gate += first * t.gate_stride;
  }
  return t;
}

// Kernels by file. x of T; weight (columns, depth) as it is.
template <typename T>
void launch_linear_f32(const LinearTask& t, cudaStream_t stream);

// x in bf16 with rows at whole 16 bytes, weights as weight_layout.cuh says. At most kFewRows rows: weights are read once, by as many
// blocks as the device holds.
constexpr int64_t kFewRows = 32;
void launch_linear_few(const LinearTask& t, const class Stream& stream);
// Any number of rows. In deep layers, and where there are fewer tiles than multiprocessors, the slices of the depth are computed
// apart and their sums meet in `workspace`, at most partial_bytes of them at once (and those of a tile of rows at least).
void launch_linear_many(const LinearTask& t, int multiprocessors, int64_t partial_bytes, class Workspace& workspace, cudaStream_t stream);

// By cuBLASLt, weight (columns, depth): sums in turns of at most sums_bytes (and of one row at least), each finished as above.
void launch_linear_pictures(const LinearTask& t, const class CublasLt& lt, const struct LtAlgorithms& algorithms, int64_t sums_bytes,
                            class Workspace& workspace, cudaStream_t stream);
// Whether that gives rows of a fixed pattern the same bits by themselves, some of them at a time, as among more; and the bits that
// `canonical` gives them, if that is not null. Waits for the device.
bool rows_keep_their_bits(const class CublasLt& lt, const lt::Algo& algorithm, const lt::Algo* canonical, const void* weight, int64_t depth,
                          int64_t columns, class Workspace& inputs, class Workspace& workspace, cudaStream_t stream);

}  // namespace ardiff::cuda
