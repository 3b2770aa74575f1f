// RMS norm and layer norms: a block per row. A row's sums are made by the same threads in the same tree whatever the other rows are.
#include "backend/cuda/cuda_backend.h"
#include "backend/cuda/device.h"
#include "backend/cuda/elements.cuh"
#include "backend/op_checks.h"

namespace ardiff {

using namespace cuda;

namespace {

constexpr int64_t kMostRows = 65535;  // blocks go on from there

struct Norm {
  const float* x;
  int64_t x_stride;
  int64_t rows;
  int width;
  float eps;
  const float* w;  // (width) or null
  const float* b;  // (width) or null, with w
  void* y;
  int64_t y_stride;
  // Modulation: null, or one row of (scale, shift) for each row of x, rows[m] or m.
  const float* scale;
  const float* shift;
  int64_t scale_stride;
  int64_t shift_stride;
  const int32_t* modulation_rows;
};

template <typename T>
__global__ void __launch_bounds__(kBlock) rms_norm_kernel(Norm a) {
  __shared__ float of_warps[kBlock / 32];
  for (int64_t m = blockIdx.x; m < a.rows; m += gridDim.x) {
    const float* x = a.x + m * a.x_stride;
    T* y = static_cast<T*>(a.y) + m * a.y_stride;
    float squares = 0.0f;
    for (int c = static_cast<int>(threadIdx.x); c < a.width; c += kBlock) squares += x[c] * x[c];
    squares = block_sum<kBlock>(squares, of_warps);
    const float scale = 1.0f / sqrtf(squares / static_cast<float>(a.width) + a.eps);
    for (int c = static_cast<int>(threadIdx.x); c < a.width; c += kBlock) y[c] = from_float<T>(x[c] * scale * a.w[c]);
  }
}

template <typename T>
__global__ void __launch_bounds__(kBlock) layer_norm_kernel(Norm a) {
  __shared__ float of_warps[kBlock / 32];
  for (int64_t m = blockIdx.x; m < a.rows; m += gridDim.x) {
    const float* x = a.x + m * a.x_stride;
    T* y = static_cast<T*>(a.y) + m * a.y_stride;
    const auto count = static_cast<float>(a.width);
    float sum = 0.0f, squares = 0.0f;
    for (int c = static_cast<int>(threadIdx.x); c < a.width; c += kBlock) sum += x[c];
    const float mean = block_sum<kBlock>(sum, of_warps) / count;
    for (int c = static_cast<int>(threadIdx.x); c < a.width; c += kBlock) squares += (x[c] - mean) * (x[c] - mean);
    const float inverse_deviation = 1.0f / sqrtf(block_sum<kBlock>(squares, of_warps) / count + a.eps);
    const int64_t t = a.modulation_rows != nullptr ? a.modulation_rows[m] : m;
    for (int c = static_cast<int>(threadIdx.x); c < a.width; c += kBlock) {
      float n = (x[c] - mean) * inverse_deviation;
      if (a.w != nullptr) n = n * a.w[c] + a.b[c];
      if (a.scale != nullptr) n = n * (1.0f + a.scale[t * a.scale_stride + c]) + a.shift[t * a.shift_stride + c];
      y[c] = from_float<T>(n);
    }
  }
}

Norm norm_of(const TensorView& x, const TensorView& w, const TensorView& b, float eps, const TensorView& y) {
  Norm out{};
  out.x = floats(x);
  out.x_stride = x.row_stride;
  out.rows = x.rows();
  out.width = static_cast<int>(x.cols());
  out.eps = eps;
  out.w = floats(w);
  out.b = floats(b);
  out.y = y.data;
  out.y_stride = y.row_stride;
  return out;
}

unsigned row_blocks(const Norm& norm) { return static_cast<unsigned>(std::min(norm.rows, kMostRows)); }

void run_layer_norm(const Norm& norm, DType result, const char* op, cudaStream_t stream) {
  if (norm.rows == 0) return;
  visit_element(result, [&](auto type) { layer_norm_kernel<decltype(type)><<<row_blocks(norm), kBlock, 0, stream>>>(norm); });
  check_launch(op);
}

}  // namespace

void CudaBackend::rms_norm(const TensorView& x, const TensorView& w, float eps, const TensorView& y) {
  op_checks::rms_norm(x, w, y);
  if (x.rows() == 0) return;
  const Norm norm = norm_of(x, w, {}, eps, y);
  visit_element(y.dtype, [&](auto type) { rms_norm_kernel<decltype(type)><<<row_blocks(norm), kBlock, 0, stream_>>>(norm); });
  check_launch("rms_norm");
}

void CudaBackend::layer_norm(const TensorView& x, const TensorView& w, const TensorView& b, float eps, const TensorView& y) {
  op_checks::layer_norm(x, w, b, y);
  run_layer_norm(norm_of(x, w, b, eps, y), y.dtype, "layer_norm", stream_);
}

void CudaBackend::ada_layer_norm(const TensorView& x, const TensorView& w, const TensorView& b, float eps, const TensorView& shift,
                                 const TensorView& scale, const TensorView& modulation_rows, const TensorView& y) {
  op_checks::ada_layer_norm(x, w, b, shift, scale, modulation_rows, y);
  Norm norm = norm_of(x, w, b, eps, y);
  norm.scale = floats(scale);
  norm.scale_stride = scale.row_stride;
  norm.shift = floats(shift);
  norm.shift_stride = shift.row_stride;
  norm.modulation_rows = indices(modulation_rows);
  run_layer_norm(norm, y.dtype, "ada_layer_norm", stream_);
}

}  // namespace ardiff
