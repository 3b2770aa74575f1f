// What this processor can do, asked at run time: the library is one binary for every x86-64.
#pragma once

#include <vector>

#include "backend/cpu/kernels.h"

namespace ardiff::cpu {

// Kernel tables that run here, best first; never empty.
std::vector<const Kernels*> available_kernels();

// True where oneDNN computes bf16 matrix products on AMX tiles.
bool has_amx_bf16();

}  // namespace ardiff::cpu
