// Weights as the gemm kernels read them: panels of `panel_columns` outputs, depth running slowest (kernels.h).
#pragma once

#include <cstdint>

#include "tensor/tensor_view.h"

namespace ardiff::cpu {

struct PanelShape {
  int64_t columns;        // outputs
  int64_t depth;          // inputs
  int64_t panel_columns;
  DType dtype;

  int64_t panels() const { return (columns + panel_columns - 1) / panel_columns; }
  int64_t padded_columns() const { return panels() * panel_columns; }
  int64_t padded_depth() const { return dtype == DType::kBF16 ? (depth + 1) / 2 * 2 : depth; }
  int64_t elements() const { return padded_columns() * padded_depth(); }
  // Index of the element of output column n at depth k.
  int64_t at(int64_t n, int64_t k) const {
    const int64_t panel = n / panel_columns * panel_columns * padded_depth();
    const int64_t column = n % panel_columns;
    return dtype == DType::kBF16 ? panel + k / 2 * 2 * panel_columns + column * 2 + k % 2 : panel + k * panel_columns + column;
  }
};

inline void put(const PanelShape& shape, void* panels, int64_t at, float value) {
  if (shape.dtype == DType::kBF16) {
    static_cast<bf16_t*>(panels)[at] = f32_to_bf16(value);
  } else {
    static_cast<float*>(panels)[at] = value;
  }
}

// The `depth` inputs of output column n.
inline void put_column(const PanelShape& shape, void* panels, int64_t n, const float* values) {
  const int64_t first = shape.at(n, 0);
  const int64_t step = shape.dtype == DType::kBF16 ? 2 : 1;
  for (int64_t k = 0; k < shape.depth; ++k) {
    put(shape, panels, first + k / step * step * shape.panel_columns + k % step, values[k]);
  }
}

// The columns of panel `panel` at depth k, from a row of all columns.
inline void put_depth(const PanelShape& shape, void* panels, int64_t panel, int64_t k, const float* columns) {
  const int64_t begin = panel * shape.panel_columns;
  const int64_t end = begin + shape.panel_columns < shape.columns ? begin + shape.panel_columns : shape.columns;
  for (int64_t n = begin; n < end; ++n) put(shape, panels, shape.at(n, k), columns[n]);
}

}  // namespace ardiff::cpu
