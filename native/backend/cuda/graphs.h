// Stretches of ops (backend/stretch.h) as CUDA graphs: one launch for hundreds of kernels.
//
//   first call of a key    ops run one by one: code is loaded, work memory and scratch grow to what they need
//   second                 ops are captured from the stream, which runs nothing, and become a graph; it is launched
//   from then on           the graph is launched, ops are not called
//
// A graph holds the arguments of its kernels as they were: the key has every address of the caller's, and when work memory of the
// backend moves, all graphs go. Whoever comes once (a prefill, a batch of a moment) is never captured.
//
// Graphs take memory of the device, how much the driver does not say. Together they may take kGraphMemory, which is part of a model's
// price: each is taken to need kLaunchMemory for a launch, and what the device has less of since they were made counts where it is more.
// Measured: 2945 launches took 4.19 MB, 1.4 KiB each, 4069 took 8.39 MB, 2.0 KiB (H100, CUDA 13.0, `cuda_bench head`); the driver takes it in whole pages of 2 MiB.
#pragma once

#include <cuda_runtime_api.h>

#include <functional>
#include <list>

#include "backend/stretch.h"

namespace ardiff::cuda {

constexpr int64_t kMostGraphLaunches = 20000;
constexpr int64_t kLaunchMemory = int64_t{4} << 10;
constexpr int64_t kGraphMemory = kMostGraphLaunches * kLaunchMemory;  // 78.125 MiB

class GraphCache {
 public:
  // enabled: whether stretches are kept at all. The stream outlives this.
  GraphCache(bool enabled, cudaStream_t stream) : enabled_(enabled), stream_(stream) {}
  ~GraphCache();
  GraphCache(const GraphCache&) = delete;
  GraphCache& operator=(const GraphCache&) = delete;

  bool enabled() const { return enabled_; }
  // At most what the device has less of.
  int64_t most_memory() const { return enabled_ ? kGraphMemory : 0; }
  // In a stretch: nothing may be uploaded or downloaded. While it is captured, nothing allocated either.
  bool inside() const { return inside_; }
  bool capturing() const { return capturing_; }

  // work_memory: a number that changes whenever memory moves that the ops use and the key does not name. Throws what ops throws,
  // kOutOfMemory or kInternal where a graph cannot be made; the next call of the key begins where this one did.
  void run(const StretchKey& key, uint64_t work_memory, const std::function<void()>& ops);
  const StretchCounts& counts() const { return counts_; }

 private:
  static constexpr size_t kMostKeys = 192;  // of a few hundred words

  struct Entry {
    StretchKey key;
    cudaGraphExec_t graph = nullptr;  // null: has run once
    int64_t nodes = 0;
    int64_t memory = 0;      // that the device has less of since it was made
    bool too_large = false;  // beyond kGraphMemory by itself: runs op by op
  };

  void record(Entry& entry, const std::function<void()>& ops);
  cudaGraph_t capture(const std::function<void()>& ops);
  void instantiate(Entry& entry, cudaGraph_t graph);
  cudaError_t make(Entry& entry, cudaGraph_t graph) const;
  void drop(Entry& entry);
  void drop_graphs();
  int64_t memory_with(int64_t more_nodes) const;
  void make_room(int64_t more_nodes, const Entry& but);

  bool enabled_;
  cudaStream_t stream_;
  bool inside_ = false;
  bool capturing_ = false;
  uint64_t work_memory_ = 0;
  std::list<Entry> entries_;  // most recently used first
  StretchCounts counts_;
};

}  // namespace ardiff::cuda
