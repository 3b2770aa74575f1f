#include "backend/cuda/cuda_backend.h"
#include "backend/cuda/device.h"
#include "backend/cuda/launch.cuh"
#include "backend/cuda/silu.cuh"
#include "backend/op_checks.h"

namespace ardiff {

using namespace cuda;

namespace {

template <typename T>
__global__ void silu_mul_kernel(const float* gate_up, int64_t stride, int64_t rows, int64_t width, T* y, int64_t y_stride) {
  wait_for_predecessor();
  let_successor_begin();
  for (int64_t i = first_item(); i < rows * width; i += item_step()) {
    const int64_t m = i / width, c = i % width;
    const float* row = gate_up + m * stride;
    y[m * y_stride + c] = from_float<T>(silu_mul(row[c], row[width + c]));
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

template <typename T>
__global__ void silu_add_kernel(SiluAdd s, T* y, int64_t y_stride) {
  wait_for_predecessor();
  let_successor_begin();
  for (int64_t i = first_item(); i < s.rows * s.width; i += item_step()) {
    const int64_t m = i / s.width, c = i % s.width;
    y[m * y_stride + c] = from_float<T>(silu(s.a[s.a_index[m] * s.a_stride + c] + s.b[s.b_index[m] * s.b_stride + c]));
  }
}

}  // namespace

void CudaBackend::silu_mul(const TensorView& gate_up, const TensorView& y) {
  op_checks::silu_mul(gate_up, y);
  const int64_t items = y.rows() * y.cols();
  if (items == 0) return;
  visit_element(y.dtype, [&](auto type) {
    using T = decltype(type);
    launch_dependent(stream_, {blocks_for(items)}, "silu_mul", silu_mul_kernel<T>, floats(gate_up), gate_up.row_stride, y.rows(), y.cols(), elements<T>(y),
                     y.row_stride);
  });
}

void CudaBackend::silu_add(const TensorView& a, const TensorView& a_index, const TensorView& b, const TensorView& b_index, const TensorView& y) {
  op_checks::silu_add(a, a_index, b, b_index, y);
  const int64_t items = y.rows() * y.cols();
  if (items == 0) return;
  const SiluAdd s{floats(a), a.row_stride, indices(a_index), floats(b), b.row_stride, indices(b_index), y.rows(), y.cols()};
  visit_element(y.dtype, [&](auto type) {
    launch_dependent(stream_, {blocks_for(items)}, "silu_add", silu_add_kernel<decltype(type)>, s, elements<decltype(type)>(y), y.row_stride);
  });
}

}  // namespace ardiff
