#include "backend/cpu/isa.h"

#include <dnnl.hpp>

namespace ardiff::cpu {

std::vector<const Kernels*> available_kernels() {
  std::vector<const Kernels*> out;
#if defined(__x86_64__)
  // These ask cpuid and whether the operating system saves the registers.
  const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("fma");
  if (avx512 && __builtin_cpu_supports("avx512bf16")) out.push_back(&kKernelsAvx512Bf16);
  if (avx512) out.push_back(&kKernelsAvx512);
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) out.push_back(&kKernelsAvx2);
#endif
  out.push_back(&kKernelsGeneric);
  return out;
}

// oneDNN also asks the kernel for permission to use the tiles, so its word counts, not cpuid's.
bool has_amx_bf16() { return dnnl::get_effective_cpu_isa() == dnnl::cpu_isa::avx512_core_amx; }

}  // namespace ardiff::cpu
