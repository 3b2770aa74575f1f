// Asynchronous copies from global to shared memory (cp.async, compute capability 8.0).
#pragma once

#include <cstdint>

namespace ardiff::cuda {

// 16 bytes, both addresses 16-byte aligned; zeros instead where `valid` is false (source must be a readable address all the same).
__device__ inline void copy_async_16(void* shared, const void* global, bool valid) {
  const auto to = static_cast<uint32_t>(__cvta_generic_to_shared(shared));
  const int bytes = valid ? 16 : 0;
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\n" ::"r"(to), "l"(global), "r"(bytes) : "memory");
}

// Ends a group of copies. Groups may be empty: waits count groups.
__device__ inline void commit_copies() { asm volatile("cp.async.commit_group;\n" ::: "memory"); }

// Until all but the `kPending` latest groups of this thread have arrived. Other threads see them after __syncthreads.
template <int kPending>
__device__ inline void wait_copies() {
  asm volatile("cp.async.wait_group %0;\n" ::"n"(kPending) : "memory");
}

}  // namespace ardiff::cuda
