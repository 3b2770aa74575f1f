// native/backend/cuda/dependent_launch.cuh on the host, where its rules are checked (dependencies.cpp).
#pragma once

#include <cuda_runtime.h>

namespace ardiff::cuda {

inline void wait_for_predecessor() { emulation::wait_for_predecessor(); }
inline void let_successor_begin() { emulation::let_successor_begin(); }

}  // namespace ardiff::cuda
