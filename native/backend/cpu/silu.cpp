#include "backend/cpu/cpu_backend.h"
#include "backend/cpu/thread_pool.h"
#include "backend/cpu/view_data.h"
#include "backend/op_checks.h"

namespace ardiff {

using namespace cpu;

namespace {

constexpr int64_t kExpCost = 4;  // of one element, in simple elements

}  // namespace

void CpuBackend::silu_mul(const TensorView& gate_up, const TensorView& y) {
  op_checks::silu_mul(gate_up, y);
  pool_.run_ranges(y.rows(), kExpCost * y.cols(), [&](int64_t begin, int64_t end) {
    for (int64_t m = begin; m < end; ++m) {
      const float* gate = row_floats(gate_up, m);
      kernels_->silu_mul(gate, gate + y.cols(), y.cols(), row_bytes(y, m), is_bf16(y));
    }
  });
}

void CpuBackend::silu_add(const TensorView& a, const TensorView& a_index, const TensorView& b, const TensorView& b_index,
                          const TensorView& y) {
  op_checks::silu_add(a, a_index, b, b_index, y);
  pool_.run_ranges(y.rows(), kExpCost * y.cols(), [&](int64_t begin, int64_t end) {
    for (int64_t m = begin; m < end; ++m) {
      kernels_->silu_add(row_floats(a, indices(a_index)[m]), row_floats(b, indices(b_index)[m]), y.cols(), row_bytes(y, m), is_bf16(y));
    }
  });
}

}  // namespace ardiff
