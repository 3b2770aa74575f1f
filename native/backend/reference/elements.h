// Reading and writing elements of a view by its dtype, and the scalar functions several ops share.
#pragma once

#include <cmath>

#include "tensor/tensor_view.h"

namespace ardiff::reference {

inline float load(const TensorView& view, int64_t i) {
  switch (view.dtype) {
    case DType::kBF16: return bf16_to_f32(reinterpret_cast<const bf16_t*>(view.data)[i]);
    case DType::kF16: return f16_to_f32(reinterpret_cast<const uint16_t*>(view.data)[i]);
    default: return reinterpret_cast<const float*>(view.data)[i];
  }
}

inline void store(const TensorView& view, int64_t i, float value) {
  if (view.dtype == DType::kBF16) {
    reinterpret_cast<bf16_t*>(view.data)[i] = f32_to_bf16(value);
  } else {
    reinterpret_cast<float*>(view.data)[i] = value;
  }
}

// Element (r, c) of a rank-2 view.
inline float load(const TensorView& view, int64_t r, int64_t c) { return load(view, r * view.row_stride + c); }
inline void store(const TensorView& view, int64_t r, int64_t c, float value) { store(view, r * view.row_stride + c, value); }

inline const int32_t* indices(const TensorView& view) { return reinterpret_cast<const int32_t*>(view.data); }

// Exact, in double: what the approximations of other backends are compared with.
inline float gelu(float v) {
  return static_cast<float>(0.5 * static_cast<double>(v) * (1.0 + std::erf(static_cast<double>(v) * 0.70710678118654752440)));
}

inline float silu(float v) { return v / (1.0f + std::exp(-v)); }

}  // namespace ardiff::reference
