#include "backend/cuda/cuda_backend.h"
#include "backend/cuda/elements.cuh"
#include "backend/cuda/launch.cuh"
#include "backend/cuda/silu.cuh"
#include "backend/op_checks.h"

namespace ardiff {

using namespace cuda;

namespace {

// kVec neighbours of a row at a time, here and below.
template <typename T, int kVec>
__global__ void silu_mul_kernel(const float* gate_up, int64_t stride, int64_t rows, int64_t width, T* y, int64_t y_stride) {
  wait_for_predecessor();
  let_successor_begin();
  for (int64_t i = first_item() * kVec; i < rows * width; i += item_step() * kVec) {
    const int64_t m = i / width, c = i % width;
    const float* row = gate_up + m * stride;
    float gate[kVec], up[kVec];
    load_elements<kVec>(row + c, gate);
    load_elements<kVec>(row + width + c, up);
#pragma unroll
    for (int e = 0; e < kVec; ++e) gate[e] = silu_mul(gate[e], up[e]);
    store_elements<kVec>(y + m * y_stride + c, gate);
  }
}

struct SiluAdd {
  const float* a;
  int64_t a_stride;
  const int32_t* a_index;
  const float* b;
  int64_t b_stride;
  const int32_t* b_index;
  int64_t rows;
  int64_t width;
};

template <typename T, int kVec>
__global__ void silu_add_kernel(SiluAdd s, T* y, int64_t y_stride) {
  wait_for_predecessor();
  let_successor_begin();
  for (int64_t i = first_item() * kVec; i < s.rows * s.width; i += item_step() * kVec) {
    const int64_t m = i / s.width, c = i % s.width;
    float a[kVec], b[kVec];
    load_elements<kVec>(s.a + s.a_index[m] * s.a_stride + c, a);
    load_elements<kVec>(s.b + s.b_index[m] * s.b_stride + c, b);
#pragma unroll
    for (int e = 0; e < kVec; ++e) a[e] = silu(a[e] + b[e]);
    store_elements<kVec>(y + m * y_stride + c, a);
  }
}

}  // namespace

void CudaBackend::silu_mul(const TensorView& gate_up, const TensorView& y) {
  op_checks::silu_mul(gate_up, y);
  const int64_t items = y.rows() * y.cols();
  if (items == 0) return;
  const bool by_four = lies_by_four(gate_up) && lies_by_four(y);
  visit_element(y.dtype, [&](auto type) {
    using T = decltype(type);
    launch_dependent(stream_, {blocks_for(by_four ? items / 4 : items)}, "silu_mul", by_four ? silu_mul_kernel<T, 4> : silu_mul_kernel<T, 1>,
                     floats(gate_up), gate_up.row_stride, y.rows(), y.cols(), elements<T>(y), y.row_stride);
  });
}

void CudaBackend::silu_add(const TensorView& a, const TensorView& a_index, const TensorView& b, const TensorView& b_index, const TensorView& y) {
  op_checks::silu_add(a, a_index, b, b_index, y);
  const int64_t items = y.rows() * y.cols();
  if (items == 0) return;
  const SiluAdd s{floats(a), a.row_stride, indices(a_index), floats(b), b.row_stride, indices(b_index), y.rows(), y.cols()};
  const bool by_four = lies_by_four(a) && lies_by_four(b) && lies_by_four(y);
  visit_element(y.dtype, [&](auto type) {
    using T = decltype(type);
    launch_dependent(stream_, {blocks_for(by_four ? items / 4 : items)}, "silu_add", by_four ? silu_add_kernel<T, 4> : silu_add_kernel<T, 1>, s,
                     elements<T>(y), y.row_stride);
  });
}

}  // namespace ardiff
