// Flags: cpu.cmake.
#define ARDIFF_KERNELS kKernelsGeneric
#define ARDIFF_ISA_NAME "generic"
#include "backend/cpu/kernels-inl.h"
