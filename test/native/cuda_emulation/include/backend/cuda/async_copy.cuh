// native/backend/cuda/async_copy.cuh on the host. Copies arrive as late as they may, when a wait asks for them, and until then what
// they will overwrite is not a number: a read too early or a buffer taken too early shows.
#pragma once

#include <cuda_runtime.h>

#include <deque>
#include <vector>

namespace ardiff::cuda {

struct PendingCopies {
  struct Copy {
    void* to;
    const void* from;
    bool valid;
    void arrive() const { valid ? std::memcpy(to, from, 16) : std::memset(to, 0, 16); }
  };
  uint64_t launch = 0;
  uint3 block{};
  std::vector<Copy> open;
  std::deque<std::vector<Copy>> groups;
};

// Of the running thread; what an earlier block left is dropped.
inline PendingCopies& pending_copies() {
  static PendingCopies of_threads[emulation::kMostThreads];
  PendingCopies& own = of_threads[emulation::thread()];
  if (own.launch != emulation::launch_number() || own.block.x != blockIdx.x || own.block.y != blockIdx.y || own.block.z != blockIdx.z) {
    own = {emulation::launch_number(), blockIdx, {}, {}};
  }
  return own;
}

inline void copy_async_16(void* shared, const void* global, bool valid) {
  if (reinterpret_cast<uintptr_t>(shared) % 16 != 0 || reinterpret_cast<uintptr_t>(global) % 16 != 0)
    emulation::stop("cp.async that is not aligned");
  std::memset(shared, 0xff, 16);
  pending_copies().open.push_back({shared, global, valid});
}

inline void commit_copies() {
  PendingCopies& own = pending_copies();
  own.groups.push_back(std::move(own.open));
  own.open.clear();
}

// All that the running thread has asked for and not waited for, for bulk_copy.cuh.
inline std::vector<PendingCopies::Copy> take_copies() {
  PendingCopies& own = pending_copies();
  std::vector<PendingCopies::Copy> out;
  for (const auto& group : own.groups) out.insert(out.end(), group.begin(), group.end());
  out.insert(out.end(), own.open.begin(), own.open.end());
  own.open.clear();
  own.groups.clear();
  return out;
}

template <int kPending>
void wait_copies() {
  PendingCopies& own = pending_copies();
  while (own.groups.size() > kPending) {
    for (const PendingCopies::Copy& copy : own.groups.front()) copy.arrive();
    own.groups.pop_front();
  }
}

}  // namespace ardiff::cuda
