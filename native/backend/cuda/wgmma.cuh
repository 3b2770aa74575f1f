// Tensor core products of a warpgroup (four warps, the first a multiple of four), wgmma m64nNk16 of compute capability 9.0a: bf16 times
// bf16, float32 sums. They run beside the code that asks for them: operands in shared memory and registers stay as they are, and sums
// are not touched, until wait_products says that they are done (PTX ISA, "Asynchronous warpgroup level matrix instructions").
//
// Sums lie as those of mma m16n8k16, one piece of eight columns after the other: warp w of the four has rows 16 w to 16 w + 15,
// sums[4 j + e] are row lane / 4 + 8 (e / 2), column 8 j + 2 (lane % 4) + e % 2.
#pragma once

#include <cuda_bf16.h>

#include <cstdint>

#include "backend/cuda/wgmma_operand.cuh"

// Code for 9.0a. In any other the functions below do nothing, and the backend does not launch kernels that call them.
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define ARDIFF_WGMMA_CODE 1
#endif

namespace ardiff::cuda {

// Before the first product, and whenever sums or operands in registers were written by other instructions.
__device__ inline void begin_products() {
#if defined(ARDIFF_WGMMA_CODE)
  asm volatile("wgmma.fence.sync.aligned;\n" ::: "memory");
#endif
}

__device__ inline void commit_products() {
#if defined(ARDIFF_WGMMA_CODE)
  asm volatile("wgmma.commit_group.sync.aligned;\n" ::: "memory");
#endif
}

// Until all but the kPending latest groups are done.
template <int kPending>
__device__ inline void wait_products() {
#if defined(ARDIFF_WGMMA_CODE)
  asm volatile("wgmma.wait_group.sync.aligned %0;\n" ::"n"(kPending) : "memory");
#endif
}

// The compiler does not know that products are under way: what stands before this does not move behind it, nor the other way round.
template <int kCount>
__device__ inline void keep_in_order(float (&values)[kCount]) {
#if defined(ARDIFF_WGMMA_CODE)
#pragma unroll
  for (int i = 0; i < kCount; ++i) asm volatile("" : "+f"(values[i])::"memory");
#else
  (void)values;
#endif
}
__device__ inline void keep_in_order(uint4& v) {
#if defined(ARDIFF_WGMMA_CODE)
  asm volatile("" : "+r"(v.x), "+r"(v.y), "+r"(v.z), "+r"(v.w)::"memory");
#else
  (void)v;
#endif
}

// What other threads and the copy of this one wrote to shared memory by plain stores and cp.async, for products that read it there: each
// writer calls it, then a barrier follows.
__device__ inline void publish_to_products() {
#if defined(ARDIFF_WGMMA_CODE)
  asm volatile("fence.proxy.async.shared::cta;\n" ::: "memory");
#endif
}

// clang-format off
#define ARDIFF_R0 "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15"
#define ARDIFF_R1 ",%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31"
#define ARDIFF_R2 ",%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47"
#define ARDIFF_R3 ",%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63"
#define ARDIFF_R4 ",%64,%65,%66,%67,%68,%69,%70,%71,%72,%73,%74,%75,%76,%77,%78,%79"
#define ARDIFF_R5 ",%80,%81,%82,%83,%84,%85,%86,%87,%88,%89,%90,%91,%92,%93,%94,%95"
#define ARDIFF_R6 ",%96,%97,%98,%99,%100,%101,%102,%103,%104,%105,%106,%107,%108,%109,%110,%111"
#define ARDIFF_R7 ",%112,%113,%114,%115,%116,%117,%118,%119,%120,%121,%122,%123,%124,%125,%126,%127"
#define ARDIFF_S4(i) "+f"(sums[i]), "+f"(sums[i + 1]), "+f"(sums[i + 2]), "+f"(sums[i + 3])
#define ARDIFF_S16(i) ARDIFF_S4(i), ARDIFF_S4(i + 4), ARDIFF_S4(i + 8), ARDIFF_S4(i + 12)
// Scales of the operands (1), no transposition.
#define ARDIFF_WGMMA_RS(n, registers, a0, a1, a2, a3, of_b, if_adds, ...)                                                                   \
  asm volatile("{.reg .pred p;\nsetp.ne.b32 p, %" #if_adds ", 0;\n"                                                                      \
               "wgmma.mma_async.sync.aligned.m64n" #n "k16.f32.bf16.bf16 {" registers "}, {%" #a0 ",%" #a1 ",%" #a2 ",%" #a3 "}, %" #of_b ", p, 1, 1, 0;\n}\n" \
               : __VA_ARGS__ : "r"(a.x), "r"(a.y), "r"(a.z), "r"(a.w), "l"(b), "r"(adds))
#define ARDIFF_WGMMA_SS(n, registers, of_a, of_b, if_adds, ...)                                                                                \
  asm volatile("{.reg .pred p;\nsetp.ne.b32 p, %" #if_adds ", 0;\n"                                                                      \
               "wgmma.mma_async.sync.aligned.m64n" #n "k16.f32.bf16.bf16 {" registers "}, %" #of_a ", %" #of_b ", p, 1, 1, 0, 0;\n}\n"   \
               : __VA_ARGS__ : "l"(a), "l"(b), "r"(adds))
// clang-format on

// sums (64 x 2 kSums) = a (64 x 16, in registers as mma m16n8k16 has it in each warp) b (16 x 2 kSums, in shared memory, column by
// column) + sums, or without them where adds is 0. A group with others until commit_products.
template <int kSums>
__device__ void multiply_async(float (&sums)[kSums], const uint4& a, uint64_t b, int adds) {
  static_assert(kSums == 32 || kSums == 48 || kSums == 64 || kSums == 80);
#if defined(ARDIFF_WGMMA_CODE)
  if constexpr (kSums == 32) {
    ARDIFF_WGMMA_RS(64, ARDIFF_R0 ARDIFF_R1, 32, 33, 34, 35, 36, 37, ARDIFF_S16(0), ARDIFF_S16(16));
  } else if constexpr (kSums == 48) {
    ARDIFF_WGMMA_RS(96, ARDIFF_R0 ARDIFF_R1 ARDIFF_R2, 48, 49, 50, 51, 52, 53, ARDIFF_S16(0), ARDIFF_S16(16), ARDIFF_S16(32));
  } else if constexpr (kSums == 64) {
    ARDIFF_WGMMA_RS(128, ARDIFF_R0 ARDIFF_R1 ARDIFF_R2 ARDIFF_R3, 64, 65, 66, 67, 68, 69, ARDIFF_S16(0), ARDIFF_S16(16), ARDIFF_S16(32),
                    ARDIFF_S16(48));
  } else {
    ARDIFF_WGMMA_RS(160, ARDIFF_R0 ARDIFF_R1 ARDIFF_R2 ARDIFF_R3 ARDIFF_R4, 80, 81, 82, 83, 84, 85, ARDIFF_S16(0), ARDIFF_S16(16),
                    ARDIFF_S16(32), ARDIFF_S16(48), ARDIFF_S16(64));
  }
#endif
}

// The same with a in shared memory, row by row.
template <int kSums>
__device__ void multiply_async(float (&sums)[kSums], uint64_t a, uint64_t b, int adds) {
  static_assert(kSums == 64 || kSums == 128);
#if defined(ARDIFF_WGMMA_CODE)
  if constexpr (kSums == 64) {
    ARDIFF_WGMMA_SS(128, ARDIFF_R0 ARDIFF_R1 ARDIFF_R2 ARDIFF_R3, 64, 65, 66, ARDIFF_S16(0), ARDIFF_S16(16), ARDIFF_S16(32),
                    ARDIFF_S16(48));
  } else {
    ARDIFF_WGMMA_SS(256, ARDIFF_R0 ARDIFF_R1 ARDIFF_R2 ARDIFF_R3 ARDIFF_R4 ARDIFF_R5 ARDIFF_R6 ARDIFF_R7, 128, 129, 130, ARDIFF_S16(0),
                    ARDIFF_S16(16), ARDIFF_S16(32), ARDIFF_S16(48), ARDIFF_S16(64), ARDIFF_S16(80), ARDIFF_S16(96), ARDIFF_S16(112));
  }
#endif
}

}  // namespace ardiff::cuda
