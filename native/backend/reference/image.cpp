// The autoencoder's ops beside convolution and attention: group norm, upsampling, patches, pixels.
#include <algorithm>

#include "backend/op_checks.h"
#include "backend/patches.h"
#include "backend/reference/elements.h"
#include "backend/reference/reference_backend.h"

namespace ardiff {
namespace {

using reference::load;
using reference::store;

}  // namespace

void ReferenceBackend::group_norm(const TensorView& x, const TensorView& w, const TensorView& b, int64_t groups, float eps, bool silu,
                                  const TensorView& y) {
  op_checks::group_norm(x, w, b, groups, y);
  const int64_t channels = x.shape[3];
  const int64_t pixels = x.shape[1] * x.shape[2];
  const int64_t group_size = channels / groups;
  const double count = static_cast<double>(pixels * group_size);
  for (int64_t image = 0; image < x.shape[0]; ++image) {
    for (int64_t g = 0; g < groups; ++g) {
      auto at = [&](int64_t p, int64_t c) { return (image * pixels + p) * channels + g * group_size + c; };
      // Over millions of pixels a float sum would lose digits, so the two sums are doubles.
      double sum = 0.0, squares = 0.0;
      for (int64_t p = 0; p < pixels; ++p) {
        for (int64_t c = 0; c < group_size; ++c) sum += load(x, at(p, c));
      }
      const auto mean = static_cast<float>(sum / count);
      for (int64_t p = 0; p < pixels; ++p) {
        for (int64_t c = 0; c < group_size; ++c) squares += static_cast<double>(load(x, at(p, c)) - mean) * (load(x, at(p, c)) - mean);
      }
      const float inverse_deviation = 1.0f / std::sqrt(static_cast<float>(squares / count) + eps);
      for (int64_t p = 0; p < pixels; ++p) {
        for (int64_t c = 0; c < group_size; ++c) {
          const int64_t channel = g * group_size + c;
          const float n = (load(x, at(p, c)) - mean) * inverse_deviation * load(w, channel) + load(b, channel);
          store(y, at(p, c), silu ? reference::silu(n) : n);
        }
      }
    }
  }
}

void ReferenceBackend::unpatchify(const TensorView& tokens, int64_t grid_height, float scaling, float shift, const TensorView& z) {
  const int64_t patch = op_checks::patches("unpatchify", tokens, grid_height, z);
  for_each_patch_element(z, patch, [&](int64_t token, int64_t column, int64_t element) {
    store(z, element, load(tokens, token, column) / scaling + shift);
  });
}

void ReferenceBackend::patchify(const TensorView& z, int64_t grid_height, float scaling, float shift, const TensorView& tokens) {
  const int64_t patch = op_checks::patches("patchify", tokens, grid_height, z);
  for_each_patch_element(z, patch, [&](int64_t token, int64_t column, int64_t element) {
    store(tokens, token, column, (load(z, element) - shift) * scaling);
  });
}

void ReferenceBackend::to_rgb8(const TensorView& y, const TensorView& rgb) {
  op_checks::to_rgb8(y, rgb);
  auto* bytes = reinterpret_cast<uint8_t*>(rgb.data);
  for (int64_t i = 0; i < y.shape.size(); ++i) {
    // max(0, .) first: a NaN becomes 0. nearbyint rounds half to even in the default mode.
    const float unit = std::min(std::max(0.0f, load(y, i) / 2.0f + 0.5f), 1.0f);
    bytes[i] = static_cast<uint8_t>(std::nearbyint(unit * 255.0f));
  }
}

}  // namespace ardiff
