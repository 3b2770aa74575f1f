// One matrix product of oneDNN with packed bf16 weights, always computed kRows rows at a time.
//
// oneDNN may block, and on AMX even split the depth, differently for different row counts. A row's bits must
// not depend on how many rows there are, so exactly one primitive with one row count exists per weight, and
// callers fill up the last tile. On AMX up to 16 rows cost hardly more than one.
#pragma once

#include <cstdint>

#include "backend/cpu/dnnl_runtime.h"
#include "tensor/dtype.h"

namespace ardiff::cpu {

class DnnlProduct {
 public:
  static constexpr int64_t kRows = 16;

  // weight: (out, in) in `dtype` (kF32 or kBF16), contiguous; read during the call only.
  DnnlProduct(DnnlRuntime& runtime, const void* weight, DType dtype, int64_t in, int64_t out);

  // r = x Wᵀ for kRows rows; x (kRows, in) in dtype, r (kRows, out) f32, both contiguous.
  void run(DnnlRuntime& runtime, const void* x, float* r);

 private:
  dnnl::memory x_, weight_, r_;
  dnnl::matmul product_;
};

}  // namespace ardiff::cpu
