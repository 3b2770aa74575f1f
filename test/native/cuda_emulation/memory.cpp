#include <sys/mman.h>

#include <map>

#include "cuda_runtime.h"
#include "dependencies.h"

namespace {

struct Mapping {
  void* begin;
  size_t bytes;
  size_t asked;
};

size_t limit = size_t{1} << 33, used = 0;

std::map<void*, Mapping>& mappings() {
  static auto* const all = new std::map<void*, Mapping>;  // outlives whoever frees last
  return *all;
}

}  // namespace

namespace emulation {

std::vector<std::pair<std::byte*, size_t>> device_memory() {
  std::vector<std::pair<std::byte*, size_t>> out;
  for (const auto& [memory, mapping] : mappings()) out.emplace_back(static_cast<std::byte*>(memory), mapping.asked);
  return out;
}

}  // namespace emulation

cudaError_t cudaMalloc(void** memory, size_t bytes) {
  if (emulation::forbidden_in_capture()) return cudaErrorStreamCaptureUnsupported;
  constexpr size_t kPage = 4096, kAlignment = 16;  // less than a device's, so that the guard is near
  const size_t body = std::max(kAlignment, (bytes + kAlignment - 1) / kAlignment * kAlignment), pages = (body + kPage - 1) / kPage * kPage;
  if (bytes > limit - std::min(used, limit)) return cudaErrorMemoryAllocation;
  void* begin = mmap(nullptr, pages + 2 * kPage, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (begin == MAP_FAILED) return cudaErrorMemoryAllocation;
  auto* usable = static_cast<std::byte*>(begin) + kPage;
  if (mprotect(usable, pages, PROT_READ | PROT_WRITE) != 0) return cudaErrorMemoryAllocation;
  *memory = usable + pages - body;
  std::memset(*memory, 0xff, body);
  mappings()[*memory] = {begin, pages + 2 * kPage, bytes};
  used += bytes;
  return cudaSuccess;
}

cudaError_t cudaFree(void* memory) {
  if (emulation::forbidden_in_capture()) return cudaErrorStreamCaptureUnsupported;
  if (memory == nullptr) return cudaSuccess;
  const auto found = mappings().find(memory);
  if (found == mappings().end()) emulation::stop("cudaFree of what was not allocated");
  emulation::forget_predecessor();  // it waits for all launches
  used -= found->second.asked;
  munmap(found->second.begin, found->second.bytes);
  mappings().erase(found);
  return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
  *total = limit;
  *free = limit - std::min(used, limit);
  return cudaSuccess;
}

namespace emulation {

void limit_memory(size_t bytes) { limit = bytes; }
size_t used_memory() { return used; }

}  // namespace emulation
