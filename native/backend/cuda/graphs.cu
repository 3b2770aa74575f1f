#include "backend/cuda/graphs.h"

#include <algorithm>

#include "backend/cuda/device.h"

namespace ardiff::cuda {

namespace {

// True until the end of the scope, whatever ends it.
class Flag {
 public:
  explicit Flag(bool& flag) : flag_(flag) { flag_ = true; }
  ~Flag() { flag_ = false; }
  Flag(const Flag&) = delete;
  Flag& operator=(const Flag&) = delete;

 private:
  bool& flag_;
};

}  // namespace

GraphCache::~GraphCache() {
  (void)cudaStreamSynchronize(stream_);
  for (Entry& entry : entries_) {
    if (entry.graph != nullptr) (void)cudaGraphExecDestroy(entry.graph);
  }
}

void GraphCache::run(const StretchKey& key, uint64_t work_memory, const std::function<void()>& ops) {
  if (inside_) return ops();
  const Flag inside(inside_);
  if (!enabled_) {
    ++counts_.plain;
    return ops();
  }
  if (work_memory != work_memory_) drop_graphs();
  work_memory_ = work_memory;
  const auto found = std::find_if(entries_.begin(), entries_.end(), [&](const Entry& entry) { return entry.key == key; });
  if (found == entries_.end()) {
    ops();
    ++counts_.plain;
    entries_.push_front({key});
    if (entries_.size() > kMostKeys) {
      if (entries_.back().graph != nullptr) check_cuda(cudaStreamSynchronize(stream_), "wait for a graph");
      drop(entries_.back());
      entries_.pop_back();
    }
    return;
  }
  entries_.splice(entries_.begin(), entries_, found);
  Entry& entry = entries_.front();
  if (entry.graph == nullptr && !entry.too_large) record(entry, ops);
  if (entry.too_large) {
    ops();
    ++counts_.plain;
    return;
  }
  check_cuda(cudaGraphLaunch(entry.graph, stream_), "launch a graph");
  ++counts_.replayed;
  counts_.last_ops = entry.nodes;
}

void GraphCache::record(Entry& entry, const std::function<void()>& ops) {
  const cudaGraph_t graph = capture(ops);
  try {
    size_t nodes = 0;
    check_cuda(cudaGraphGetNodes(graph, nullptr, &nodes), "count a graph's nodes");
    entry.nodes = static_cast<int64_t>(nodes);
    entry.too_large = entry.nodes > kMostGraphLaunches;
    if (!entry.too_large) {
      make_room(entry.nodes, entry);
      instantiate(entry, graph);
    }
  } catch (...) {
    (void)cudaGraphDestroy(graph);
    throw;
  }
  (void)cudaGraphDestroy(graph);
  if (entry.too_large) return;
  ++counts_.recorded;
  ++counts_.kept;
  counts_.kept_ops += entry.nodes;
  counts_.kept_bytes += entry.memory;
  make_room(0, entry);  // it has taken more than it was taken to need
  if (memory_with(0) <= kGraphMemory) return;
  entry.too_large = true;
  drop(entry);
}

// A capture that fails leaves the stream as it was before.
cudaGraph_t GraphCache::capture(const std::function<void()>& ops) {
  // Of this thread: what other threads ask of the device meanwhile is their business.
  check_cuda(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal), "begin a capture");
  const Flag capturing(capturing_);
  cudaGraph_t graph = nullptr;
  try {
    ops();
  } catch (...) {
    (void)cudaStreamEndCapture(stream_, &graph);
    (void)cudaGetLastError();  // ending a capture that was broken is an error of its own
    if (graph != nullptr) (void)cudaGraphDestroy(graph);
    throw;
  }
  check_cuda(cudaStreamEndCapture(stream_, &graph), "end a capture");
  return graph;
}

// Where the device has no memory for it, the others make room: they can be recorded again.
void GraphCache::instantiate(Entry& entry, cudaGraph_t graph) {
  cudaError_t status = make(entry, graph);
  if (status == cudaErrorMemoryAllocation && counts_.kept > 0) {
    (void)cudaGetLastError();
    drop_graphs();
    status = make(entry, graph);
  }
  check_cuda(status, "make a graph");
}

// With all that it takes of the device: uploaded, so that nothing of it is left for its first launch. What others take or give back in
// that moment counts as well; it errs for one graph.
cudaError_t GraphCache::make(Entry& entry, cudaGraph_t graph) const {
  size_t before = 0, after = 0, total = 0;
  check_cuda(cudaMemGetInfo(&before, &total), "free memory");
  cudaError_t status = cudaGraphInstantiateWithFlags(&entry.graph, graph, 0);
  if (status != cudaSuccess) {
    entry.graph = nullptr;
    return status;
  }
  status = cudaGraphUpload(entry.graph, stream_);
  if (status == cudaSuccess) status = cudaStreamSynchronize(stream_);
  if (status != cudaSuccess) {
    (void)cudaGraphExecDestroy(entry.graph);
    entry.graph = nullptr;
    return status;
  }
  check_cuda(cudaMemGetInfo(&after, &total), "free memory");
  entry.memory = std::max<int64_t>(0, static_cast<int64_t>(before) - static_cast<int64_t>(after));
  return cudaSuccess;
}

// The stream must have run it.
void GraphCache::drop(Entry& entry) {
  if (entry.graph == nullptr) return;
  (void)cudaGraphExecDestroy(entry.graph);
  entry.graph = nullptr;
  --counts_.kept;
  counts_.kept_ops -= entry.nodes;
  counts_.kept_bytes -= entry.memory;
}

void GraphCache::drop_graphs() {
  if (counts_.kept == 0) return;
  check_cuda(cudaStreamSynchronize(stream_), "wait for graphs");
  for (Entry& entry : entries_) drop(entry);
}

int64_t GraphCache::memory_with(int64_t more_nodes) const {
  return std::max((counts_.kept_ops + more_nodes) * kLaunchMemory, counts_.kept_bytes + more_nodes * kLaunchMemory);
}

// The longest unused go first, `but` stays. Their keys stay: they are captured again when they come again.
void GraphCache::make_room(int64_t more_nodes, const Entry& but) {
  if (memory_with(more_nodes) <= kGraphMemory) return;
  check_cuda(cudaStreamSynchronize(stream_), "wait for graphs");
  for (auto entry = entries_.rbegin(); entry != entries_.rend() && memory_with(more_nodes) > kGraphMemory; ++entry) {
    if (&*entry != &but) drop(*entry);
  }
}

}  // namespace ardiff::cuda
