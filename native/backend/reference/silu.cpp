#include "backend/op_checks.h"
#include "backend/reference/elements.h"
#include "backend/reference/reference_backend.h"

namespace ardiff {

using reference::load;
using reference::store;

void ReferenceBackend::silu_mul(const TensorView& gate_up, const TensorView& y) {
  op_checks::silu_mul(gate_up, y);
  const int64_t width = y.cols();
  for (int64_t m = 0; m < y.rows(); ++m) {
    for (int64_t c = 0; c < width; ++c) store(y, m, c, reference::silu(load(gate_up, m, c)) * load(gate_up, m, width + c));
  }
}

void ReferenceBackend::silu_add(const TensorView& a, const TensorView& a_index, const TensorView& b, const TensorView& b_index,
                                const TensorView& y) {
  op_checks::silu_add(a, a_index, b, b_index, y);
  for (int64_t m = 0; m < y.rows(); ++m) {
    const int64_t i = reference::indices(a_index)[m];
    const int64_t j = reference::indices(b_index)[m];
    for (int64_t c = 0; c < y.cols(); ++c) store(y, m, c, reference::silu(load(a, i, c) + load(b, j, c)));
  }
}

}  // namespace ardiff
