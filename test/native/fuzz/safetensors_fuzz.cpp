// Any bytes: either a typed error or tensors that lie inside the file. Build with -DARDIFF_FUZZ=ON and clang.
#include <cstdlib>

#include "io/safetensors.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::span<const std::byte> file(reinterpret_cast<const std::byte*>(data), size);
  try {
    for (const auto& [name, tensor] : ardiff::parse_safetensors(file, "fuzz")) {
      const auto* begin = static_cast<const std::byte*>(tensor.data);
      const size_t bytes = static_cast<size_t>(tensor.shape.size()) * ardiff::dtype_size(tensor.dtype);
      if (begin < file.data() || begin + bytes > file.data() + file.size()) std::abort();
    }
  } catch (const ardiff::Error&) {
  }
  return 0;
}
