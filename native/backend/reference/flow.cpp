// The flow head's own ops: timestep features and the sampler step.
#include "backend/op_checks.h"
#include "backend/reference/elements.h"
#include "backend/reference/reference_backend.h"

namespace ardiff {

using reference::load;
using reference::store;

void ReferenceBackend::timestep_features(const TensorView& t, const TensorView& y) {
  op_checks::timestep_features(t, y);
  const int64_t half = y.cols() / 2;
  for (int64_t n = 0; n < y.rows(); ++n) {
    for (int64_t i = 0; i < half; ++i) {
      const auto frequency = static_cast<float>(std::exp(-std::log(10000.0) * static_cast<double>(i) / static_cast<double>(half)));
      store(y, n, i, std::cos(load(t, n) * frequency));
      store(y, n, half + i, std::sin(load(t, n) * frequency));
    }
  }
}

void ReferenceBackend::flow_step(const TensorView& x, const TensorView& v, const TensorView& row_begin, const TensorView& state,
                                 const TensorView& coefficients, const TensorView& noise, const TensorView& noise_index) {
  op_checks::flow_step(x, v, row_begin, state, coefficients, noise, noise_index);
  for (int64_t i = 0; i < state.shape[0]; ++i) {
    const int64_t first = reference::indices(row_begin)[i];
    const int64_t rows = reference::indices(row_begin)[i + 1] - first;
    check(rows >= 1 && rows <= 3, ErrorCode::kInternal, "flow_step: sequence ", i, " has ", rows, " guidance rows");
    const int64_t s = reference::indices(state)[i];
    const float a = load(coefficients, i, 0);
    const float b = load(coefficients, i, 1);
    const float gamma = load(coefficients, i, 2);
    const float cfg = load(coefficients, i, 3);
    const float cfg_img = load(coefficients, i, 4);
    for (int64_t c = 0; c < x.cols(); ++c) {
      const float conditional = load(v, first, c);
      float guided = conditional;
      if (rows == 2) {
        const float unconditional = load(v, first + 1, c);
        guided = unconditional + cfg * (conditional - unconditional);
      } else if (rows == 3) {
        const float image_only = load(v, first + 1, c);
        const float unconditional = load(v, first + 2, c);
        guided = unconditional + cfg_img * (image_only - unconditional) + cfg * (conditional - image_only);
      }
      float next = a * load(x, s, c) + b * guided;
      if (gamma != 0.0f) next += gamma * load(noise, reference::indices(noise_index)[i], c);
      store(x, s, c, next);
    }
  }
}

}  // namespace ardiff
