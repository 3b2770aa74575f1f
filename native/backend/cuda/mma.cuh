// Tensor core products of one warp, mma.sync m16n8k16: bf16 times bf16, float32 sums. Tiles lie in shared memory with the depth
// contiguous, rows 16-byte aligned.
#pragma once

#include <cuda_bf16.h>

#include <cstdint>

namespace ardiff::cuda {

__device__ inline void load_matrices(const void* shared, uint32_t& r0, uint32_t& r1, uint32_t& r2, uint32_t& r3) {
  const auto address = static_cast<uint32_t>(__cvta_generic_to_shared(shared));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];\n"
               : "=r"(r0), "=r"(r1), "=r"(r2), "=r"(r3)
               : "r"(address)
               : "memory");
}

// The same of matrices whose rows and columns are exchanged: what a lane gets are two numbers one below the other.
__device__ inline void load_matrices_transposed(const void* shared, uint32_t& r0, uint32_t& r1, uint32_t& r2, uint32_t& r3) {
  const auto address = static_cast<uint32_t>(__cvta_generic_to_shared(shared));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];\n"
               : "=r"(r0), "=r"(r1), "=r"(r2), "=r"(r3)
               : "r"(address)
               : "memory");
}

// 16 rows by 16 of depth from `tile` on: lanes 0-15 name rows of the first 8 of depth, lanes 16-31 of the second.
__device__ inline void load_a_fragment(const __nv_bfloat16* tile, int stride, int lane, uint32_t (&a)[4]) {
  load_matrices(tile + lane % 16 * stride + lane / 16 * 8, a[0], a[1], a[2], a[3]);
}

// Two fragments of 8 columns by 16 of depth each: lanes 0-7 and 8-15 name the first eight columns (first and second half of the
// depth), lanes 16-31 the next eight.
__device__ inline void load_b_fragments(const __nv_bfloat16* tile, int stride, int lane, uint32_t (&b0)[2], uint32_t (&b1)[2]) {
  load_matrices(tile + (lane / 16 * 8 + lane % 8) * stride + lane / 8 % 2 * 8, b0[0], b0[1], b1[0], b1[1]);
}

// sums (16 x 8) += a (16 x 16) b (16 x 8)
__device__ inline void multiply_add(float (&sums)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};\n"
      : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

}  // namespace ardiff::cuda
