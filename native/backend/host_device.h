// Functions that the CUDA kernels and the host share: plain C++ unless nvcc compiles them.
#pragma once

#ifdef __CUDACC__
#define ARDIFF_HD __host__ __device__
#else
#define ARDIFF_HD
#endif
