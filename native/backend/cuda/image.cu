// Patches and pixels.
#include "backend/cuda/cuda_backend.h"
#include "backend/cuda/device.h"
#include "backend/cuda/patch_index.cuh"
#include "backend/op_checks.h"

namespace ardiff {

using namespace cuda;

namespace {


template <typename T>
__global__ void unpatchify_kernel(const float* tokens, int64_t stride, PatchShape shape, float scaling, float shift, int64_t count, T* z) {
  for (int64_t i = first_item(); i < count; i += item_step()) {
    const PatchElement e = patch_element(shape, i);
    z[i] = from_float<T>(tokens[e.token * stride + e.column] / scaling + shift);
  }
}

__global__ void patchify_kernel(const float* z, PatchShape shape, float scaling, float shift, int64_t count, float* tokens, int64_t stride) {
  for (int64_t i = first_item(); i < count; i += item_step()) {
    const PatchElement e = patch_element(shape, i);
    tokens[e.token * stride + e.column] = (z[i] - shift) * scaling;
  }
}

// fmaxf(0, .) first: a NaN becomes 0. __float2int_rn rounds half to even.
__global__ void to_rgb8_kernel(const float* y, int64_t count, uint8_t* rgb) {
  for (int64_t i = first_item(); i < count; i += item_step()) {
    const float unit = fminf(fmaxf(0.0f, y[i] / 2.0f + 0.5f), 1.0f);
    rgb[i] = static_cast<uint8_t>(__float2int_rn(unit * 255.0f));
  }
}

PatchShape patch_shape(const TensorView& z, int64_t patch) {
  return {static_cast<int>(z.shape[2]), static_cast<int>(z.shape[3]), static_cast<int>(patch)};
}

}  // namespace

void CudaBackend::unpatchify(const TensorView& tokens, int64_t grid_height, float scaling, float shift, const TensorView& z) {
  const PatchShape shape = patch_shape(z, op_checks::patches("unpatchify", tokens, grid_height, z));
  const int64_t count = z.shape.size();
  if (count == 0) return;
  visit_element(z.dtype, [&](auto type) {
    using T = decltype(type);
    unpatchify_kernel<<<blocks_for(count), kBlock, 0, stream_>>>(floats(tokens), tokens.row_stride, shape, scaling, shift, count, elements<T>(z));
  });
  check_launch("unpatchify");
}

void CudaBackend::patchify(const TensorView& z, int64_t grid_height, float scaling, float shift, const TensorView& tokens) {
  const PatchShape shape = patch_shape(z, op_checks::patches("patchify", tokens, grid_height, z));
  const int64_t count = z.shape.size();
  if (count == 0) return;
  check(z.dtype == DType::kF32, ErrorCode::kInternal, "patchify: expected z F32, got ", dtype_name(z.dtype));
  patchify_kernel<<<blocks_for(count), kBlock, 0, stream_>>>(floats(z), shape, scaling, shift, count, floats(tokens), tokens.row_stride);
  check_launch("patchify");
}

void CudaBackend::to_rgb8(const TensorView& y, const TensorView& rgb) {
  op_checks::to_rgb8(y, rgb);
  const int64_t count = y.shape.size();
  if (count == 0) return;
  to_rgb8_kernel<<<blocks_for(count), kBlock, 0, stream_>>>(floats(y), count, elements<uint8_t>(rgb));
  check_launch("to_rgb8");
}

}  // namespace ardiff
