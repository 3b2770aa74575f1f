// Flags: cpu.cmake.
#if defined(__x86_64__)
#define ARDIFF_SIMD_AVX2 1
#define ARDIFF_KERNELS kKernelsAvx2
#define ARDIFF_ISA_NAME "avx2"
#include "backend/cpu/kernels-inl.h"
#endif
