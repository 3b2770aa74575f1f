// RMS norm and layer norms: a block per row. A row's sums are made by the same threads in the same tree whatever the other rows are.
#include "backend/cuda/cuda_backend.h"
#include "backend/cuda/device.h"
#include "backend/cuda/launch.cuh"
#include "backend/cuda/row_norm.cuh"
#include "backend/op_checks.h"

namespace ardiff {

using namespace cuda;

namespace {

constexpr int64_t kMostRows = 65535;  // blocks go on from there

template <typename T>
__global__ void __launch_bounds__(kBlock) norm_kernel(RowNormTask a, T* y, int64_t y_stride) {
  __shared__ float of_warps[1][kBlock / 32];
  wait_for_predecessor();
  let_successor_begin();
  for (int64_t m = blockIdx.x; m < a.rows; m += gridDim.x) {
    norm_rows<1>(a, m, 1, of_warps, [&](int, int c, float value) { y[m * y_stride + c] = from_float<T>(value); });
  }
}

void launch_norm(const RowNormTask& task, const TensorView& y, const char* op, const Stream& stream) {
  if (task.rows == 0) return;
  const auto blocks = static_cast<unsigned>(std::min(task.rows, kMostRows));
  visit_element(y.dtype, [&](auto type) {
    launch_dependent(stream, {blocks}, op, norm_kernel<decltype(type)>, task, elements<decltype(type)>(y), y.row_stride);
  });
}

}  // namespace

void CudaBackend::rms_norm(const TensorView& x, const TensorView& w, float eps, const TensorView& y) {
  op_checks::rms_norm(x, w, y);
  launch_norm(row_norm_task(x, RowNorm::rms(w, eps)), y, "rms_norm", stream_);
}

void CudaBackend::layer_norm(const TensorView& x, const TensorView& w, const TensorView& b, float eps, const TensorView& y) {
  op_checks::layer_norm(x, w, b, y);
  launch_norm(row_norm_task(x, RowNorm::layer(w, b, eps)), y, "layer_norm", stream_);
}

void CudaBackend::ada_layer_norm(const TensorView& x, const TensorView& w, const TensorView& b, float eps, const TensorView& shift,
                                 const TensorView& scale, const TensorView& modulation_rows, const TensorView& y) {
  op_checks::ada_layer_norm(x, w, b, shift, scale, modulation_rows, y);
  launch_norm(row_norm_task(x, RowNorm::modulated(w, b, eps, shift, scale, modulation_rows)), y, "ada_layer_norm", stream_);
}

}  // namespace ardiff
