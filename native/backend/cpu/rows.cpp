// Moving rows about: embed, gather_rows, scatter_rows, convert, add.
#include <cstring>

#include "backend/cpu/cpu_backend.h"
#include "backend/cpu/thread_pool.h"
#include "backend/cpu/view_data.h"
#include "backend/op_checks.h"

namespace ardiff {

using namespace cpu;

void CpuBackend::embed(const TensorView& table, const TensorView& ids, const TensorView& y) {
  op_checks::embed(table, ids, y);
  const int64_t width = y.cols();
  pool_.run_ranges(y.rows(), width, [&](int64_t begin, int64_t end) {
    for (int64_t m = begin; m < end; ++m) {
      const std::byte* from = row_bytes(table, indices(ids)[m]);
      float* to = row_floats(y, m);
      switch (table.dtype) {
        case DType::kBF16: kernels_->load_bf16(reinterpret_cast<const bf16_t*>(from), width, to); break;
        case DType::kF16:
          for (int64_t c = 0; c < width; ++c) to[c] = f16_to_f32(reinterpret_cast<const uint16_t*>(from)[c]);
          break;
        default: std::memcpy(to, from, static_cast<size_t>(width) * sizeof(float)); break;
      }
    }
  });
}

void CpuBackend::gather_rows(const TensorView& x, const TensorView& index, const TensorView& y) {
  op_checks::gather_rows(x, index, y);
  const size_t bytes = static_cast<size_t>(x.cols()) * dtype_size(x.dtype);
  pool_.run_ranges(y.rows(), x.cols(), [&](int64_t begin, int64_t end) {
    for (int64_t m = begin; m < end; ++m) std::memcpy(row_bytes(y, m), row_bytes(x, indices(index)[m]), bytes);
  });
}

void CpuBackend::scatter_rows(const TensorView& x, const TensorView& index, const TensorView& y) {
  op_checks::scatter_rows(x, index, y);
  const size_t bytes = static_cast<size_t>(x.cols()) * dtype_size(x.dtype);
  pool_.run_ranges(x.rows(), x.cols(), [&](int64_t begin, int64_t end) {
    for (int64_t m = begin; m < end; ++m) std::memcpy(row_bytes(y, indices(index)[m]), row_bytes(x, m), bytes);
  });
}

void CpuBackend::convert(const TensorView& x, const TensorView& y) {
  op_checks::convert(x, y);
  pool_.run_ranges(x.shape.size(), 1, [&](int64_t begin, int64_t end) {
    const size_t size = dtype_size(y.dtype);
    std::byte* to = y.data + static_cast<size_t>(begin) * size;
    if (x.dtype == y.dtype) {
      std::memcpy(to, x.data + static_cast<size_t>(begin) * size, static_cast<size_t>(end - begin) * size);
    } else if (is_bf16(y)) {
      kernels_->store(floats(x) + begin, end - begin, to, true);
    } else {
      kernels_->load_bf16(reinterpret_cast<const bf16_t*>(x.data) + begin, end - begin, reinterpret_cast<float*>(to));
    }
  });
}

void CpuBackend::add(const TensorView& a, const TensorView& b, const TensorView& y) {
  op_checks::add(a, b, y);
  pool_.run_ranges(y.shape.size(), 1,
               [&](int64_t begin, int64_t end) { kernels_->add(floats(a) + begin, floats(b) + begin, end - begin, floats(y) + begin); });
}

}  // namespace ardiff
