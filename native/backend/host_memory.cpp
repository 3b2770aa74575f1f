#include "backend/host_memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "base/cgroup.h"

namespace ardiff {
namespace {

constexpr size_t kCacheLine = 64;
constexpr size_t kHugePage = size_t{2} << 20;

// The machine's, or what of it the process's control group allows: beyond that the kernel ends the process.
size_t memory_limit() {
  static const size_t bytes = [] {
    const size_t machine = static_cast<size_t>(sysconf(_SC_PHYS_PAGES)) * static_cast<size_t>(sysconf(_SC_PAGESIZE));
    return std::min<size_t>(machine, cgroup_limits().memory_bytes.value_or(machine));
  }();
  return bytes;
}

}  // namespace

Storage allocate_host(size_t bytes) {
  // Linux promises memory it does not have and ends the process when it is touched, so the promise is not asked for.
  check(bytes <= memory_limit(), ErrorCode::kOutOfMemory, "out of memory: ", bytes, " bytes, the process may have ", memory_limit());
  // From 4 MiB on whole huge pages: streaming weights otherwise spends its time in the page tables.
  const bool huge = bytes >= 2 * kHugePage;
  const size_t alignment = huge ? kHugePage : kCacheLine;
  const size_t size = (bytes + alignment - 1) / alignment * alignment;
  void* memory = std::aligned_alloc(alignment, size == 0 ? alignment : size);
  check(memory != nullptr, ErrorCode::kOutOfMemory, "out of memory: ", bytes, " bytes");
  if (huge) (void)madvise(memory, size, MADV_HUGEPAGE);
  std::memset(memory, 0, size);
  return Storage(static_cast<std::byte*>(memory), [](std::byte* pointer) { std::free(pointer); });
}

void read_f32(const HostTensor& source, int64_t begin, int64_t count, float* out) {
  const auto* bytes = static_cast<const std::byte*>(source.data) + static_cast<size_t>(begin) * dtype_size(source.dtype);
  switch (source.dtype) {
    case DType::kF32: std::memcpy(out, bytes, static_cast<size_t>(count) * sizeof(float)); return;
    case DType::kBF16:
    case DType::kF16:
      for (int64_t i = 0; i < count; ++i) {
        uint16_t value;
        std::memcpy(&value, bytes + 2 * i, sizeof value);
        out[i] = source.dtype == DType::kBF16 ? bf16_to_f32(value) : f16_to_f32(value);
      }
      return;
    case DType::kI32:
    case DType::kU8:
    case DType::kF64: break;
  }
  fail(ErrorCode::kInvalidModel, "tensor ", source.name, ": expected floats, got ", dtype_name(source.dtype));
}

}  // namespace ardiff
