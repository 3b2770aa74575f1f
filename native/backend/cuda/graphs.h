// Stretches of ops (backend/stretch.h) as CUDA graphs: one launch for hundreds of kernels.
//
//   first call of a key    ops run one by one: code is loaded, work memory and scratch grow to what they need
//   second                 ops are captured from the stream, which runs nothing, and become a graph; it is launched
//   from then on           the graph is launched, ops are not called
//
// A graph holds the arguments of its kernels as they were: the key has every address of the caller's, and when work memory of the
// backend moves, all graphs go. Whoever comes once (a prefill, a batch of a moment) is never captured.
#pragma once

#include <cuda_runtime_api.h>

#include <functional>
#include <list>

#include "backend/stretch.h"

namespace ardiff::cuda {

class GraphCache {
 public:
  // enabled: whether stretches are kept at all. The stream outlives this.
  GraphCache(bool enabled, cudaStream_t stream) : enabled_(enabled), stream_(stream) {}
  ~GraphCache();
  GraphCache(const GraphCache&) = delete;
  GraphCache& operator=(const GraphCache&) = delete;

  bool enabled() const { return enabled_; }
  // In a stretch: nothing may be uploaded or downloaded. While it is captured, nothing allocated either.
  bool inside() const { return inside_; }
  bool capturing() const { return capturing_; }

  // work_memory: a number that changes whenever memory moves that the ops use and the key does not name. Throws what ops throws,
  // kOutOfMemory or kInternal where a graph cannot be made; the next call of the key begins where this one did.
  void run(const StretchKey& key, uint64_t work_memory, const std::function<void()>& ops);
  const StretchCounts& counts() const { return counts_; }

 private:
  // Keys are a few hundred words. What a launch in a graph takes of the device's memory, cuda_bench prints.
  static constexpr size_t kMostKeys = 192;
  static constexpr int64_t kMostNodes = 20000;

  struct Entry {
    StretchKey key;
    cudaGraphExec_t graph = nullptr;  // null: has run once
    int64_t nodes = 0;
  };

  void record(Entry& entry, const std::function<void()>& ops);
  cudaGraph_t capture(const std::function<void()>& ops);
  void instantiate(Entry& entry, cudaGraph_t graph);
  void drop(Entry& entry);
  void drop_graphs();
  void make_room(int64_t nodes);

  bool enabled_;
  cudaStream_t stream_;
  bool inside_ = false;
  bool capturing_ = false;
  uint64_t work_memory_ = 0;
  std::list<Entry> entries_;  // most recently used first
  StretchCounts counts_;
};

}  // namespace ardiff::cuda
