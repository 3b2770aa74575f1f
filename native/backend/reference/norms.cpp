#include "backend/op_checks.h"
#include "backend/reference/elements.h"
#include "backend/reference/reference_backend.h"

namespace ardiff {
namespace {

using reference::load;
using reference::store;

struct Moments {
  float mean;
  float inverse_deviation;  // 1 / sqrt(var + eps)
};

Moments row_moments(const TensorView& x, int64_t m, float eps) {
  const auto count = static_cast<float>(x.cols());
  float sum = 0.0f;
  for (int64_t c = 0; c < x.cols(); ++c) sum += load(x, m, c);
  const float mean = sum / count;
  float squares = 0.0f;
  for (int64_t c = 0; c < x.cols(); ++c) squares += (load(x, m, c) - mean) * (load(x, m, c) - mean);
  return {mean, 1.0f / std::sqrt(squares / count + eps)};
}

float normalize(const Moments& moments, float value, const TensorView& w, const TensorView& b, int64_t c) {
  const float n = (value - moments.mean) * moments.inverse_deviation;
  return w ? n * load(w, c) + load(b, c) : n;
}

}  // namespace

void ReferenceBackend::rms_norm(const TensorView& x, const TensorView& w, float eps, const TensorView& y) {
  op_checks::rms_norm(x, w, y);
  for (int64_t m = 0; m < x.rows(); ++m) {
    float squares = 0.0f;
    for (int64_t c = 0; c < x.cols(); ++c) squares += load(x, m, c) * load(x, m, c);
    const float scale = 1.0f / std::sqrt(squares / static_cast<float>(x.cols()) + eps);
    for (int64_t c = 0; c < x.cols(); ++c) store(y, m, c, load(x, m, c) * scale * load(w, c));
  }
}

void ReferenceBackend::layer_norm(const TensorView& x, const TensorView& w, const TensorView& b, float eps, const TensorView& y) {
  op_checks::layer_norm(x, w, b, y);
  for (int64_t m = 0; m < x.rows(); ++m) {
    const Moments moments = row_moments(x, m, eps);
    for (int64_t c = 0; c < x.cols(); ++c) store(y, m, c, normalize(moments, load(x, m, c), w, b, c));
  }
}

void ReferenceBackend::ada_layer_norm(const TensorView& x, const TensorView& w, const TensorView& b, float eps, const TensorView& shift,
                                      const TensorView& scale, const TensorView& modulation_rows, const TensorView& y) {
  op_checks::ada_layer_norm(x, w, b, shift, scale, modulation_rows, y);
  for (int64_t m = 0; m < x.rows(); ++m) {
    const Moments moments = row_moments(x, m, eps);
    const int64_t t = modulation_rows ? reference::indices(modulation_rows)[m] : m;
    for (int64_t c = 0; c < x.cols(); ++c) {
      store(y, m, c, normalize(moments, load(x, m, c), w, b, c) * (1.0f + load(scale, t, c)) + load(shift, t, c));
    }
  }
}

}  // namespace ardiff
