// The safetensors container: u64 little-endian header length, a JSON header, then raw tensor bytes.
// Every number of the header is untrusted: lengths, shapes and offsets are bounded before they are used, and
// each error names file, tensor and offset.
#pragma once

#include <cstddef>
#include <map>
#include <span>
#include <string>
#include <string_view>

#include "tensor/tensor_view.h"

namespace ardiff {

// Largest JSON header that is parsed; the released 14B checkpoint's is below 100 KiB.
inline constexpr size_t kMaxSafetensorsHeader = 64u << 20;

// name -> tensor whose data points into `file`. `label` stands for the file in error messages.
// Accepts F32, F16, BF16 and I32 tensors of rank 0 to 4; empty tensors and those of other dtypes or ranks are left
// out (such buffers are never weights), their offsets are checked all the same.
// Throws kInvalidModel. The views live as long as `file`.
std::map<std::string, HostTensor> parse_safetensors(std::span<const std::byte> file, std::string_view label);

}  // namespace ardiff
