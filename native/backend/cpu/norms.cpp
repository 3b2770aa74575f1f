#include "backend/cpu/cpu_backend.h"
#include "backend/cpu/thread_pool.h"
#include "backend/cpu/view_data.h"
#include "backend/op_checks.h"

namespace ardiff {

using namespace cpu;

namespace {

// A norm costs a few passes over its row.
constexpr int64_t kPasses = 3;

}  // namespace

void CpuBackend::rms_norm(const TensorView& x, const TensorView& w, float eps, const TensorView& y) {
  op_checks::rms_norm(x, w, y);
  pool_.run_ranges(x.rows(), kPasses * x.cols(), [&](int64_t begin, int64_t end) {
    for (int64_t m = begin; m < end; ++m) kernels_->rms_norm(row_floats(x, m), floats(w), eps, x.cols(), row_bytes(y, m), is_bf16(y));
  });
}

void CpuBackend::layer_norm(const TensorView& x, const TensorView& w, const TensorView& b, float eps, const TensorView& y) {
  op_checks::layer_norm(x, w, b, y);
  pool_.run_ranges(x.rows(), kPasses * x.cols(), [&](int64_t begin, int64_t end) {
    for (int64_t m = begin; m < end; ++m) {
      kernels_->layer_norm(row_floats(x, m), floats(w), floats(b), nullptr, nullptr, eps, x.cols(), row_bytes(y, m), is_bf16(y));
    }
  });
}

void CpuBackend::ada_layer_norm(const TensorView& x, const TensorView& w, const TensorView& b, float eps, const TensorView& shift,
                                const TensorView& scale, const TensorView& modulation_rows, const TensorView& y) {
  op_checks::ada_layer_norm(x, w, b, shift, scale, modulation_rows, y);
  pool_.run_ranges(x.rows(), kPasses * x.cols(), [&](int64_t begin, int64_t end) {
    for (int64_t m = begin; m < end; ++m) {
      const int64_t t = modulation_rows ? indices(modulation_rows)[m] : m;
      kernels_->layer_norm(row_floats(x, m), floats(w), floats(b), row_floats(shift, t), row_floats(scale, t), eps, x.cols(),
                           row_bytes(y, m), is_bf16(y));
    }
  });
}

}  // namespace ardiff
