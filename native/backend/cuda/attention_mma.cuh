// Paged attention on a bf16 cache by tensor cores.
#pragma once

#include "backend/cuda/attention_heads.cuh"
#include "backend/cuda/attention_partials.cuh"
#include "backend/cuda/memory.h"

namespace ardiff::cuda {

struct DeviceSize {
  int multiprocessors;
  size_t block_shared_bytes;  // the most that a block may have
};

// Whatever the rows: what a row gets does not depend on them.
bool takes_attention_mma(const KvLayer& kv, const Queries& a, const DeviceSize& device);

// Each group of each row's keys: into partials, or for rows of one group into out. tables: that rows may share.
void launch_attention_mma(const Queries& a, const KvLayer& kv, int64_t rows, int64_t tables, const DeviceSize& device, const Partials& partials,
                          const Output& out, const Stream& stream);

}  // namespace ardiff::cuda
