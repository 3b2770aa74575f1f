// Where operands of warpgroup products lie in shared memory (PTX ISA, "Shared memory matrix layout" and "Matrix descriptor").
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace ardiff::cuda {

// Its rows eight at a time in core matrices of eight times 16 bytes.
// Plain: a core matrix is 128 bytes in a row; across_depth and across_rows are the bytes from one to the next in either direction.
__device__ inline uint64_t plain_operand(const void* shared, int across_depth, int across_rows) {
  const auto address = static_cast<uint64_t>(__cvta_generic_to_shared(shared));
  return (address & 0x3ffff) >> 4 | static_cast<uint64_t>(across_depth >> 4) << 16 | static_cast<uint64_t>(across_rows >> 4) << 32;
}

// Rows of 128 bytes, eight of them from a multiple of 1024 bytes on, the 16 bytes c of row r at place c ^ r % 8. 16 of depth are
// kSwizzledDepth further.
__device__ inline uint64_t swizzled_operand(const void* shared) {
  const auto address = static_cast<uint64_t>(__cvta_generic_to_shared(shared));
  return (address & 0x3ffff) >> 4 | uint64_t{1} << 16 | uint64_t{1024 >> 4} << 32 | uint64_t{1} << 62;
}
constexpr uint64_t kSwizzledDepth = 32 >> 4;

}  // namespace ardiff::cuda
