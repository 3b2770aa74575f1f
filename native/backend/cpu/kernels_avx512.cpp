// Flags: cpu.cmake.
#if defined(__x86_64__)
#define ARDIFF_SIMD_AVX512 1
#define ARDIFF_KERNELS kKernelsAvx512
#define ARDIFF_ISA_NAME "avx512"
#include "backend/cpu/kernels-inl.h"
#endif
