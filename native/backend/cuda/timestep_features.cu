#include "backend/cuda/cuda_backend.h"
#include "backend/cuda/device.h"
#include "backend/op_checks.h"

namespace ardiff {

using namespace cuda;

namespace {

// The frequency in double as the reference makes it: a float exponential would be off in its last digits, times t up to 1000.
__global__ void timestep_features_kernel(const float* t, int64_t rows, int64_t half, float* y, int64_t stride) {
  for (int64_t item = first_item(); item < rows * half; item += item_step()) {
    const int64_t n = item / half, i = item % half;
    const auto frequency = static_cast<float>(exp(-log(10000.0) * static_cast<double>(i) / static_cast<double>(half)));
    float sine, cosine;
    sincosf(__fmul_rn(t[n], frequency), &sine, &cosine);
    y[n * stride + i] = cosine;
    y[n * stride + half + i] = sine;
  }
}

}  // namespace

void CudaBackend::timestep_features(const TensorView& t, const TensorView& y) {
  op_checks::timestep_features(t, y);
  const int64_t half = y.cols() / 2, items = y.rows() * half;
  if (items == 0) return;
  timestep_features_kernel<<<blocks_for(items), kBlock, 0, stream_>>>(floats(t), y.rows(), half, floats(y), y.row_stride);
  check_launch("timestep_features");
}

}  // namespace ardiff
