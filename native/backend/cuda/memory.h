// Owners of what CUDA hands out: the stream, device memory that ops keep between calls, and the pinned ring through which host
// memory goes up.
#pragma once

#include <cuda_runtime_api.h>

#include <array>
#include <cstddef>
#include <cstdint>

namespace ardiff::cuda {

class Stream {
 public:
  // launches_early: kernels that can may begin before their predecessor's end (dependent_launch.cuh).
  explicit Stream(bool launches_early);
  ~Stream();
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  operator cudaStream_t() const { return stream_; }  // NOLINT(google-explicit-constructor): it is the handle
  bool launches_early() const { return launches_early_; }

 private:
  cudaStream_t stream_ = nullptr;
  bool launches_early_;
};

// Device memory that grows to the largest need and is kept. What get() returned is gone at the next get(): one op, one call.
class Workspace {
 public:
  Workspace() = default;
  ~Workspace();
  Workspace(const Workspace&) = delete;
  Workspace& operator=(const Workspace&) = delete;

  // 256-byte aligned, uninitialised. Throws kOutOfMemory.
  template <typename T>
  T* get(int64_t count) {
    return static_cast<T*>(grow(static_cast<size_t>(count) * sizeof(T)));
  }
  // How often it has moved.
  uint64_t moves() const { return moves_; }

 private:
  void* grow(size_t bytes);

  void* data_ = nullptr;
  size_t size_ = 0;
  uint64_t moves_ = 0;
};

// Host memory the device writes by itself. Grows to the largest need and is kept; what get() returned is gone at the next get().
class PinnedMemory {
 public:
  PinnedMemory() = default;
  ~PinnedMemory();
  PinnedMemory(const PinnedMemory&) = delete;
  PinnedMemory& operator=(const PinnedMemory&) = delete;

  std::byte* get(size_t bytes);

 private:
  void* data_ = nullptr;
  size_t size_ = 0;
};

// Host memory the device reads by itself, in a ring of pieces: a copy is enqueued from a piece that is used again only after the
// stream has read it, so the caller's memory is free as soon as upload returns.
class StagingRing {
 public:
  StagingRing();
  ~StagingRing();
  StagingRing(const StagingRing&) = delete;
  StagingRing& operator=(const StagingRing&) = delete;

  void upload(void* to, const void* from, size_t bytes, cudaStream_t stream);

 private:
  static constexpr size_t kPieces = 4;
  static constexpr size_t kPieceBytes = size_t{2} << 20;
  static constexpr size_t kAlignment = 64;

  void next_piece(cudaStream_t stream);

  std::byte* memory_ = nullptr;
  std::array<cudaEvent_t, kPieces> read_{};  // recorded when the ring leaves a piece
  size_t piece_ = 0;
  size_t used_ = 0;
};

}  // namespace ardiff::cuda
