// Shared memory: a window for each block of a cluster, laid out alike, so that an address means the same in all of them.
#include "shared_memory.h"

#include <vector>

#include "emulation.h"

namespace emulation {
namespace {

constexpr size_t kMostBytes = 227 << 10;  // of a block, compute capability 9.0
constexpr size_t kAlignment = 1024;       // of dynamic memory: the most that a kernel asks for

struct Declared {
  const void* declaration;
  size_t offset;
};

struct Window {
  std::vector<std::byte> bytes;
  std::byte* begin() { return bytes.data() + (kAlignment - reinterpret_cast<uintptr_t>(bytes.data()) % kAlignment) % kAlignment; }
};

std::vector<Window> windows;
std::vector<Declared> declared;
size_t used;  // by dynamic memory and what is declared
unsigned blocks_of_cluster;

}  // namespace

void begin_shared(unsigned blocks, size_t dynamic_bytes) {
  if (dynamic_bytes > kMostBytes) stop("more shared memory than a block has");
  windows.resize(std::max<size_t>(windows.size(), blocks));
  for (Window& window : windows) window.bytes.resize(kMostBytes + kAlignment);
  declared.clear();
  blocks_of_cluster = blocks;
  used = dynamic_bytes;
}

void clear_shared() {
  for (Window& window : windows) std::memset(window.begin(), 0xff, used);
}

void* dynamic_shared() { return windows[block_of_cluster()].begin(); }

void* static_shared(const void* declaration, size_t bytes, size_t alignment) {
  std::byte* const begin = windows[block_of_cluster()].begin();
  for (const Declared& one : declared) {
    if (one.declaration == declaration) return begin + one.offset;
  }
  const size_t offset = (used + alignment - 1) / alignment * alignment;
  if (offset + bytes > kMostBytes) stop("more shared memory than a block has");
  declared.push_back({declaration, offset});
  for (Window& window : windows) std::memset(window.begin() + used, 0xff, offset + bytes - used);
  used = offset + bytes;
  return begin + offset;
}

uint32_t shared_offset(const void* shared) {
  const auto offset = static_cast<size_t>(static_cast<const std::byte*>(shared) - windows[block_of_cluster()].begin());
  if (offset >= used) stop("an address that is not in the block's shared memory");
  return static_cast<uint32_t>(offset);
}

std::byte* shared_at(unsigned block, uint32_t offset, size_t bytes) {
  if (block >= blocks_of_cluster) stop("a block that the cluster does not have");
  if (offset + bytes > used) stop("shared memory that the kernel does not have");
  if (has_ended(block)) stop("the shared memory of a block that has ended");
  return windows[block].begin() + offset;
}

}  // namespace emulation
