#include "backend/cuda/memory.h"

#include <algorithm>
#include <cstring>

#include "backend/cuda/device.h"

namespace ardiff::cuda {

// Not the default stream: that one waits for, and is waited for by, everybody in the process.
Stream::Stream(bool launches_early) : launches_early_(launches_early) { check_cuda(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "create a stream"); }

Stream::~Stream() {
  if (stream_ != nullptr) (void)cudaStreamDestroy(stream_);
}

Workspace::~Workspace() { (void)cudaFree(data_); }

void* Workspace::grow(size_t bytes) {
  if (bytes <= size_) return data_;
  ++moves_;
  // cudaFree waits for the kernels that may still read the old memory. Half as much again, so that growth ends soon.
  check_cuda(cudaFree(data_), "free a workspace");
  data_ = nullptr;
  size_ = 0;
  const size_t wanted = std::max(bytes + bytes / 2, size_t{1} << 20);
  check_cuda(cudaMalloc(&data_, wanted), "allocate a workspace");
  size_ = wanted;
  return data_;
}

PinnedMemory::~PinnedMemory() { (void)cudaFreeHost(data_); }

std::byte* PinnedMemory::get(size_t bytes) {
  if (bytes > size_) {
    check_cuda(cudaFreeHost(data_), "free pinned memory");
    data_ = nullptr;
    size_ = 0;
    const size_t wanted = std::max(2 * bytes, size_t{1} << 16);
    check_cuda(cudaMallocHost(&data_, wanted), "allocate pinned memory");
    size_ = wanted;
  }
  return static_cast<std::byte*>(data_);
}

StagingRing::StagingRing() {
  void* memory = nullptr;
  check_cuda(cudaMallocHost(&memory, kPieces * kPieceBytes), "allocate pinned memory");
  memory_ = static_cast<std::byte*>(memory);
  for (cudaEvent_t& event : read_) check_cuda(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "create an event");
}

StagingRing::~StagingRing() {
  for (cudaEvent_t event : read_) {
    if (event != nullptr) (void)cudaEventDestroy(event);
  }
  (void)cudaFreeHost(memory_);
}

void StagingRing::next_piece(cudaStream_t stream) {
  check_cuda(cudaEventRecord(read_[piece_], stream), "record an event");
  piece_ = (piece_ + 1) % kPieces;
  used_ = 0;
  check_cuda(cudaEventSynchronize(read_[piece_]), "wait for an upload");  // at once for a piece never left
}

void StagingRing::upload(void* to, const void* from, size_t bytes, cudaStream_t stream) {
  auto* target = static_cast<std::byte*>(to);
  const auto* source = static_cast<const std::byte*>(from);
  while (bytes > 0) {
    if (used_ == kPieceBytes) next_piece(stream);
    const size_t now = std::min(bytes, kPieceBytes - used_);
    std::byte* staged = memory_ + piece_ * kPieceBytes + used_;
    std::memcpy(staged, source, now);
    check_cuda(cudaMemcpyAsync(target, staged, now, cudaMemcpyHostToDevice, stream), "upload");
    used_ = std::min(kPieceBytes, (used_ + now + kAlignment - 1) / kAlignment * kAlignment);
    target += now;
    source += now;
    bytes -= now;
  }
}

}  // namespace ardiff::cuda
