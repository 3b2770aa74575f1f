// Typed pointers into views, for code that has checked dtype and shape.
#pragma once

#include "tensor/tensor_view.h"

namespace ardiff::cpu {

inline float* floats(const TensorView& view) { return reinterpret_cast<float*>(view.data); }
inline const int32_t* indices(const TensorView& view) { return reinterpret_cast<const int32_t*>(view.data); }
inline bool is_bf16(const TensorView& view) { return view.dtype == DType::kBF16; }

// Row r of a rank-2 view.
inline std::byte* row_bytes(const TensorView& view, int64_t r) {
  return view.data + static_cast<size_t>(r * view.row_stride) * dtype_size(view.dtype);
}
inline float* row_floats(const TensorView& view, int64_t r) { return reinterpret_cast<float*>(view.data) + r * view.row_stride; }

}  // namespace ardiff::cpu
