// native/backend/cuda/bulk_copy.cuh on the host. What comes to a block by itself does so at some time after it was asked for
// (emulation::later), and until then what it will overwrite is not a number. Fences do nothing: memory is always seen in order here.
#pragma once

#include <cuda_runtime.h>

#include "backend/cuda/async_copy.cuh"
#include "backend/cuda/wgmma.cuh"

namespace ardiff::cuda {

// mbarrier (PTX ISA, "mbarrier contents"): a phase is over when as many have arrived as are expected and no bytes are outstanding.
struct EmulatedBarrier {
  uint64_t expected : 20;
  uint64_t pending : 20;
  int64_t bytes : 22;  // outstanding; below 0 if they come before somebody expects them
  uint64_t parity : 1;
  uint64_t unset : 1;  // as all memory is at first

  void update() {
    if (pending != 0 || bytes != 0) return;
    pending = expected;
    parity ^= 1;
  }
  void arrive() {
    if (pending == 0) emulation::stop("more arrivals at a barrier than a phase has");
    --pending;
    update();
  }
  void expect(int64_t count) { bytes += count; }
  void complete(int64_t count) {
    bytes -= count;
    update();
  }
};
static_assert(sizeof(EmulatedBarrier) == sizeof(uint64_t));

inline EmulatedBarrier& barrier_at(unsigned block, uint32_t offset) {
  if (offset % 8 != 0) emulation::stop("a barrier that is not aligned");
  auto& barrier = *reinterpret_cast<EmulatedBarrier*>(emulation::shared_at(block, offset, sizeof(EmulatedBarrier)));
  if (barrier.unset != 0) emulation::stop("a barrier that is not initialized");
  return barrier;
}
inline EmulatedBarrier& barrier_of(uint64_t* barrier) {
  return barrier_at(emulation::block_of_cluster(), emulation::shared_offset(barrier));
}

inline uint32_t shared_address(const void* shared) { return emulation::shared_offset(shared); }

inline void init_barrier(uint64_t* barrier, int arrivals) {
  auto& set = *reinterpret_cast<EmulatedBarrier*>(barrier);
  (void)emulation::shared_offset(barrier);
  set = {static_cast<uint64_t>(arrivals), static_cast<uint64_t>(arrivals), 0, 0, 0};
}
inline void publish_barriers() {}

inline void arrive(uint64_t* barrier) { barrier_of(barrier).arrive(); }

inline void arrive_expecting(uint64_t* barrier, uint32_t bytes) {
  barrier_of(barrier).expect(bytes);
  barrier_of(barrier).arrive();
}

inline void wait_phase(uint64_t* barrier, uint32_t parity) {
  EmulatedBarrier& of = barrier_of(barrier);
  emulation::wait_until([&of, parity] { return of.parity != parity; });
}

// To those places of that block.
inline void copy_bulk_to(unsigned block, uint32_t to, const void* global, uint32_t bytes, uint32_t barrier) {
  if (to % 16 != 0 || reinterpret_cast<uintptr_t>(global) % 16 != 0 || bytes % 16 != 0 || bytes == 0)
    emulation::stop("a bulk copy that is not of whole aligned 16 bytes");
  std::memset(emulation::shared_at(block, to, bytes), 0xff, bytes);
  emulation::later([=] {
    std::memcpy(emulation::shared_at(block, to, bytes), global, bytes);
    barrier_at(block, barrier).complete(bytes);
  });
}
inline void copy_bulk(void* shared, const void* global, uint32_t bytes, uint64_t* barrier) {
  copy_bulk_to(emulation::block_of_cluster(), shared_address(shared), global, bytes, shared_address(barrier));
}
inline void copy_bulk_to_blocks(void* shared, const void* global, uint32_t bytes, uint64_t* barrier, uint16_t blocks) {
  for (unsigned block = 0; block < 16; ++block) {
    if ((blocks >> block & 1) != 0) copy_bulk_to(block, shared_address(shared), global, bytes, shared_address(barrier));
  }
}

inline void arrive_when_copied(uint64_t* barrier) {
  std::vector<PendingCopies::Copy> copies = take_copies();
  const unsigned block = emulation::block_of_cluster();
  emulation::later([copies = std::move(copies), block, at = shared_address(barrier)] {
    for (const PendingCopies::Copy& copy : copies) copy.arrive();
    barrier_at(block, at).arrive();
  });
}

template <int kThreads>
void sync_some() {
  emulation::sync_some(kThreads);
}

template <int kCount>
void leave_registers() {}
template <int kCount>
void take_registers() {}

inline void sync_cluster() { emulation::sync_cluster(); }

// An address in the cluster: the block above the bits of its shared memory.
constexpr unsigned kBlockBit = 20;
inline unsigned block_of_address(uint32_t there) { return there >> kBlockBit; }
inline uint32_t offset_of_address(uint32_t there) { return there & ((1u << kBlockBit) - 1); }

inline uint32_t address_in_block(const void* shared, int block) {
  return static_cast<uint32_t>(block) << kBlockBit | shared_address(shared);
}

inline void send_to_block(uint32_t there, float4 v, uint32_t barrier) {
  if (there % 16 != 0) emulation::stop("16 bytes sent to where they are not aligned");
  if (block_of_address(there) != block_of_address(barrier)) emulation::stop("a barrier in another block than what it counts");
  const unsigned block = block_of_address(there);
  std::memset(emulation::shared_at(block, offset_of_address(there), sizeof v), 0xff, sizeof v);
  emulation::later([=] {
    std::memcpy(emulation::shared_at(block, offset_of_address(there), sizeof v), &v, sizeof v);
    barrier_at(block, offset_of_address(barrier)).complete(sizeof v);
  });
}
// At once: one that comes late is the same as a thread that is held back.
inline void arrive_in_block(uint32_t there) { barrier_at(block_of_address(there), offset_of_address(there)).arrive(); }

}  // namespace ardiff::cuda
