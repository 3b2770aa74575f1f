// A matrix product of oneDNN with packed weights, for processors where it has AMX and the own kernels do not.
//
// oneDNN may block, and on AMX even split the depth, differently for different row and thread counts. A row's
// bits must not depend on how many rows there are, so a weight is cut into shards of columns, each with exactly
// one primitive of one thread and kRows rows; callers fill up the last tile of rows. On AMX up to 16 rows cost
// hardly more than one. Shards run side by side on the thread pool.
#pragma once

#include <cstdint>
#include <vector>

#include "backend/cpu/dnnl_runtime.h"
#include "tensor/dtype.h"

namespace ardiff::cpu {

class DnnlProduct {
 public:
  static constexpr int64_t kRows = 16;

  // weight: (out, in) in `dtype` (kF32 or kBF16), contiguous; read during the call only.
  DnnlProduct(DnnlRuntime& runtime, const void* weight, DType dtype, int64_t in, int64_t out);

  int64_t shards() const { return static_cast<int64_t>(shards_.size()); }
  // The columns [begin, begin + width) of a shard.
  int64_t begin(int64_t shard) const { return shard * columns_; }
  int64_t width(int64_t shard) const { return shards_[static_cast<size_t>(shard)].width; }

  // r = x Wᵀ for kRows rows and the shard's columns; x (kRows, in) in dtype, r (kRows, width) f32, contiguous.
  // Different shards may run at once; the calling thread must have one OpenMP thread. Throws dnnl::error.
  void run(int64_t shard, const void* x, float* r);

 private:
  struct Shard {
    int64_t width;
    dnnl::matmul product;
    dnnl::memory x, weight, r, scratchpad;
    dnnl::stream stream;
  };

  int64_t columns_;
  std::vector<Shard> shards_;
};

}  // namespace ardiff::cpu
