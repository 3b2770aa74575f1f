// Programmatic dependent launches (compute capability 9.0): a kernel that may begin while the one before it in the stream still runs, to
// fetch what does not depend on that one. The order that makes it right:
//
//   1. before wait_for_predecessor() a kernel reads nothing but prepared weights and its arguments, and writes nothing
//   2. every thread of every kernel that is launched so waits: the end of a kernel is then the end of all before it
//   3. let_successor_begin() comes after the wait, so at most two kernels run at once
//
// Weights are placed by other kernels and followed by an upload, which a launch after it waits for. A kernel launched in the plain way
// (<<<>>>) waits for all before it by itself, and whoever comes after it begins at its end. Code for older devices has no such
// instructions: the backend launches in this way only where the code that runs is for 9.0 or later.
#pragma once

namespace ardiff::cuda {

// Returns when all that earlier kernels have written can be read. At once in a kernel that was launched in the plain way.
__device__ inline void wait_for_predecessor() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

// When all blocks have said so, or have ended, the next kernel may begin where there is room. No promise about what can be read.
__device__ inline void let_successor_begin() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

}  // namespace ardiff::cuda
