// native/backend/cuda/mma.cuh on the host: its instructions as lanes of fibers make them, sums in the order of the depth.
#pragma once

#include <cuda_bf16.h>

namespace ardiff::cuda {

inline void load_matrices(const void* shared, uint32_t& r0, uint32_t& r1, uint32_t& r2, uint32_t& r3) {
  if (reinterpret_cast<uintptr_t>(shared) % 16 != 0) emulation::stop("ldmatrix of a row that is not aligned");
  const int lane = emulation::lane();
  uint32_t* const to[4] = {&r0, &r1, &r2, &r3};
  for (int matrix = 0; matrix < 4; ++matrix) {
    const auto* row = emulation::shuffle(static_cast<const std::byte*>(shared), matrix * 8 + lane / 4);
    std::memcpy(to[matrix], row + lane % 4 * 4, 4);
  }
}

inline void load_matrices_transposed(const void* shared, uint32_t& r0, uint32_t& r1, uint32_t& r2, uint32_t& r3) {
  if (reinterpret_cast<uintptr_t>(shared) % 16 != 0) emulation::stop("ldmatrix of a row that is not aligned");
  const int lane = emulation::lane();
  uint32_t* const to[4] = {&r0, &r1, &r2, &r3};
  for (int matrix = 0; matrix < 4; ++matrix) {
    for (int half = 0; half < 2; ++half) {
      const auto* row = emulation::shuffle(static_cast<const std::byte*>(shared), matrix * 8 + lane % 4 * 2 + half);
      std::memcpy(reinterpret_cast<std::byte*>(to[matrix]) + 2 * half, row + lane / 4 * 2, 2);
    }
  }
}

inline void load_a_fragment(const __nv_bfloat16* tile, int stride, int lane, uint32_t (&a)[4]) {
  load_matrices(tile + lane % 16 * stride + lane / 16 * 8, a[0], a[1], a[2], a[3]);
}

inline void load_b_fragments(const __nv_bfloat16* tile, int stride, int lane, uint32_t (&b0)[2], uint32_t (&b1)[2]) {
  load_matrices(tile + (lane / 16 * 8 + lane % 8) * stride + lane / 8 % 2 * 8, b0[0], b0[1], b1[0], b1[1]);
}

// Operands of all lanes of each warp.
struct Operands {
  uint32_t a[32][4], b[32][2];
};
inline Operands operands_of_warps[emulation::kMostThreads / 32];

inline float half_of(uint32_t word, int half) { return std::bit_cast<float>(half != 0 ? word & 0xffff0000u : word << 16); }

inline void multiply_add(float (&sums)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  const int lane = emulation::lane();
  Operands& all = operands_of_warps[emulation::thread() / 32];
  std::memcpy(all.a[lane], a, sizeof a);
  std::memcpy(all.b[lane], b, sizeof b);
  emulation::sync_warp();
  for (int e = 0; e < 4; ++e) {
    const int row = lane / 4 + e / 2 * 8, column = lane % 4 * 2 + e % 2;
    for (int k = 0; k < 16; ++k) {
      const float x = half_of(all.a[row % 8 * 4 + k % 8 / 2][k / 8 * 2 + row / 8], k % 2);
      const float w = half_of(all.b[column * 4 + k % 8 / 2][k / 8], k % 2);
      sums[e] = std::fma(x, w, sums[e]);
    }
  }
  emulation::sync_warp();
}

}  // namespace ardiff::cuda
