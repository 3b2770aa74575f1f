// Copies of whole pieces to shared memory that one thread asks for (cp.async.bulk), the barriers that count their bytes and hand places
// back (mbarrier), and clusters of two blocks that read each other's shared memory: compute capability 9.0 (PTX ISA, "Asynchronous
// copies", "mbarrier", "barrier.cluster").
#pragma once

#include <cstdint>

#include "backend/cuda/wgmma.cuh"

namespace ardiff::cuda {

__device__ inline uint32_t shared_address(const void* shared) { return static_cast<uint32_t>(__cvta_generic_to_shared(shared)); }

// One thread, before others use it: `arrivals` of a phase, beside the bytes that it expects.
__device__ inline void init_barrier(uint64_t* barrier, int arrivals) {
#if defined(ARDIFF_WGMMA_CODE)
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;\n" ::"r"(shared_address(barrier)), "r"(arrivals) : "memory");
#endif
}
// After the last init_barrier, by the thread that called it.
__device__ inline void publish_barriers() {
#if defined(ARDIFF_WGMMA_CODE)
  asm volatile("fence.mbarrier_init.release.cluster;\n" ::: "memory");
  publish_to_products();
#endif
}

__device__ inline void arrive(uint64_t* barrier) {
#if defined(ARDIFF_WGMMA_CODE)
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];\n" ::"r"(shared_address(barrier)) : "memory");
#endif
}

// Arrives, and the phase is not over before that many bytes are there.
__device__ inline void arrive_expecting(uint64_t* barrier, uint32_t bytes) {
#if defined(ARDIFF_WGMMA_CODE)
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;\n" ::"r"(shared_address(barrier)), "r"(bytes) : "memory");
#endif
}

// Until the phase of that parity (0, 1, 0, ...) is over. Waiting for parity 1 of a barrier in its first phase returns at once.
__device__ inline void wait_phase(uint64_t* barrier, uint32_t parity) {
#if defined(ARDIFF_WGMMA_CODE)
  asm volatile(
      "{.reg .pred done;\nagain:\nmbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n@done bra over;\nbra again;\nover:\n}\n" ::"r"(
          shared_address(barrier)),
      "r"(parity)
      : "memory");
#endif
}

// `bytes` (a multiple of 16) from global to shared memory of this block, both 16-byte aligned; `barrier` counts them.
__device__ inline void copy_bulk(void* shared, const void* global, uint32_t bytes, uint64_t* barrier) {
#if defined(ARDIFF_WGMMA_CODE)
  asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];\n" ::"r"(shared_address(shared)),
               "l"(global), "r"(bytes), "r"(shared_address(barrier))
               : "memory");
#endif
}

// The same to some blocks of a cluster, a bit for each, at the same places, each of whose `barrier` counts what comes to it.
__device__ inline void copy_bulk_to_blocks(void* shared, const void* global, uint32_t bytes, uint64_t* barrier, uint16_t blocks) {
#if defined(ARDIFF_WGMMA_CODE)
  asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster [%0], [%1], %2, [%3], %4;\n" ::"r"(
                   shared_address(shared)),
               "l"(global), "r"(bytes), "r"(shared_address(barrier)), "h"(blocks)
               : "memory");
#endif
}

// Arrives once all copies that this thread has asked for by copy_async_16 are there.
__device__ inline void arrive_when_copied(uint64_t* barrier) {
#if defined(ARDIFF_WGMMA_CODE)
  asm volatile("cp.async.mbarrier.arrive.noinc.shared::cta.b64 [%0];\n" ::"r"(shared_address(barrier)) : "memory");
#endif
}

// The first kThreads threads of the block, while the others do something else.
template <int kThreads>
__device__ inline void sync_some() {
#if defined(ARDIFF_WGMMA_CODE)
  asm volatile("bar.sync 1, %0;\n" ::"n"(kThreads) : "memory");
#endif
}

// Registers of a thread from now on, for whole warpgroups: what some leave others can take.
template <int kCount>
__device__ inline void leave_registers() {
#if defined(ARDIFF_WGMMA_CODE)
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;\n" ::"n"(kCount));
#endif
}
template <int kCount>
__device__ inline void take_registers() {
#if defined(ARDIFF_WGMMA_CODE)
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;\n" ::"n"(kCount));
#endif
}

// Every thread of every block of the cluster; what was written to shared memory before can be read by all after.
__device__ inline void sync_cluster() {
#if defined(ARDIFF_WGMMA_CODE)
  asm volatile("barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;\n" ::: "memory");
#endif
}

// Where another block of the cluster has what lies at `shared` in this one, for the functions below.
__device__ inline uint32_t address_in_block(const void* shared, int block) {
  uint32_t there = 0;
#if defined(ARDIFF_WGMMA_CODE)
  asm volatile("mapa.shared::cluster.u32 %0, %1, %2;\n" : "=r"(there) : "r"(shared_address(shared)), "r"(block));
#endif
  return there;
}
// 16 bytes, which `barrier`, in the same block as `there`, counts as it does a copy's: no fence, and who waits for its phase has them. (The
// wait is of the block's scope, as it is for copies that others of the cluster send. With .acquire.cluster it would also forget the first
// level of cache.)
__device__ inline void send_to_block(uint32_t there, float4 v, uint32_t barrier) {
#if defined(ARDIFF_WGMMA_CODE)
  asm volatile("st.async.shared::cluster.mbarrier::complete_tx::bytes.v4.f32 [%0], {%1, %2, %3, %4}, [%5];\n" ::"r"(there), "f"(v.x),
               "f"(v.y), "f"(v.z), "f"(v.w), "r"(barrier)
               : "memory");
#endif
}
// Says that this thread, or the products of its warp, has read what the other may now overwrite. It does not make writes of this thread
// seen there: that would be .release.cluster, a fence, with which a convolution of 512 channels at 64 x 64 took 78 us on an H100 and takes 53.
__device__ inline void arrive_in_block(uint32_t there) {
#if defined(ARDIFF_WGMMA_CODE)
  asm volatile("mbarrier.arrive.shared::cluster.b64 _, [%0];\n" ::"r"(there) : "memory");
#endif
}

}  // namespace ardiff::cuda
