#include "backend/reference/reference_backend.h"

#include <cstring>

#include "backend/host_memory.h"

namespace ardiff {

Storage ReferenceBackend::allocate(size_t bytes) { return allocate_host(bytes); }

void ReferenceBackend::upload(const TensorView& dst, const void* src) {
  check(dst.contiguous(), ErrorCode::kInternal, "upload: destination must be contiguous");
  if (dst.bytes() != 0) std::memcpy(dst.data, src, dst.bytes());
}

void ReferenceBackend::download(const TensorView& src, void* dst) {
  check(src.contiguous(), ErrorCode::kInternal, "download: source must be contiguous");
  if (src.bytes() != 0) std::memcpy(dst, src.data, src.bytes());
}

}  // namespace ardiff
