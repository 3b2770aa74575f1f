// Upsampling, patches and pixels.
#include <cstring>

#include "backend/cpu/cpu_backend.h"
#include "backend/cpu/thread_pool.h"
#include "backend/cpu/view_data.h"
#include "backend/op_checks.h"
#include "backend/patches.h"

namespace ardiff {

using namespace cpu;

void CpuBackend::upsample(const TensorView& x, const TensorView& y) {
  const int64_t width = x.shape[2], channels = x.shape[3];
  const size_t pixel = static_cast<size_t>(channels) * dtype_size(y.dtype);
  const size_t row_size = 2 * static_cast<size_t>(width) * pixel;
  pool_.run_ranges(x.shape[0] * x.shape[1], 4 * width * channels, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const float* from = floats(x) + row * width * channels;
      std::byte* to = y.data + static_cast<size_t>(2 * row) * row_size;
      for (int64_t column = 0; column < width; ++column) {
        std::byte* pair = to + static_cast<size_t>(2 * column) * pixel;
        kernels_->store(from + column * channels, channels, pair, is_bf16(y));
        std::memcpy(pair + pixel, pair, pixel);
      }
      std::memcpy(to + row_size, to, row_size);
    }
  });
}

void CpuBackend::unpatchify(const TensorView& tokens, int64_t grid_height, float scaling, float shift, const TensorView& z) {
  const int64_t patch = op_checks::patches("unpatchify", tokens, grid_height, z);
  for_each_patch_element(z, patch, [&](int64_t token, int64_t column, int64_t element) {
    const float value = row_floats(tokens, token)[column] / scaling + shift;
    if (is_bf16(z)) {
      reinterpret_cast<bf16_t*>(z.data)[element] = f32_to_bf16(value);
    } else {
      floats(z)[element] = value;
    }
  });
}

void CpuBackend::patchify(const TensorView& z, int64_t grid_height, float scaling, float shift, const TensorView& tokens) {
  const int64_t patch = op_checks::patches("patchify", tokens, grid_height, z);
  for_each_patch_element(z, patch, [&](int64_t token, int64_t column, int64_t element) {
    const float value = is_bf16(z) ? bf16_to_f32(reinterpret_cast<const bf16_t*>(z.data)[element]) : floats(z)[element];
    row_floats(tokens, token)[column] = (value - shift) * scaling;
  });
}

void CpuBackend::to_rgb8(const TensorView& y, const TensorView& rgb) {
  op_checks::to_rgb8(y, rgb);
  pool_.run_ranges(y.shape.size(), 2, [&](int64_t begin, int64_t end) {
    kernels_->to_rgb8(floats(y) + begin, end - begin, reinterpret_cast<uint8_t*>(rgb.data) + begin);
  });
}

}  // namespace ardiff
