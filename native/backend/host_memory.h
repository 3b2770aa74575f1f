// Host memory for the backends that compute on the host, and reading of host tensors whatever their dtype.
#pragma once

#include <cstdint>

#include "tensor/tensor_view.h"

namespace ardiff {

// Zeroed, 64-byte aligned; large pieces ask for huge pages. Throws kOutOfMemory.
Storage allocate_host(size_t bytes);

// Elements [begin, begin + count) of a float tensor as float32. The source may be unaligned (a mapped file).
void read_f32(const HostTensor& source, int64_t begin, int64_t count, float* out);

}  // namespace ardiff
