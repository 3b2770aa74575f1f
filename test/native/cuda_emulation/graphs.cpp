// Capture of a stream, and graphs: launches with their arguments as they were, run when the graph is launched.
#include <vector>

#include "cuda_runtime.h"
#include "emulated_memory.h"
#include "emulated_stream.h"

struct emulation_graph {
  std::vector<std::function<void()>> launches;
};
struct emulation_graph_exec {
  std::vector<std::function<void()>> launches;
  void* memory;
};

namespace {

size_t memory_of_a_launch = 4096;
emulation_graph* captured = nullptr;
bool invalid = false;

}  // namespace

namespace emulation {

bool is_capturing() { return captured != nullptr; }

void set_memory_of_a_launch(size_t bytes) { memory_of_a_launch = bytes; }

void capture(std::function<void()> launch) { captured->launches.push_back(std::move(launch)); }

bool forbidden_in_capture() {
  invalid = invalid || is_capturing();
  return is_capturing();
}

}  // namespace emulation

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  static emulation_stream only = {[](std::function<void()> work) {
    const auto plain = [work = std::move(work)] { emulation::forget_predecessor(), work(); };
    emulation::is_capturing() ? emulation::capture(plain) : plain();
  }};
  *stream = &only;
  return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t) { return emulation::forbidden_in_capture() ? cudaErrorStreamCaptureUnsupported : cudaSuccess; }

cudaError_t cudaStreamBeginCapture(cudaStream_t, cudaStreamCaptureMode) {
  if (captured != nullptr) return cudaErrorInvalidValue;
  captured = new emulation_graph;
  invalid = false;
  return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t, cudaGraph_t* graph) {
  *graph = nullptr;
  if (captured == nullptr) return cudaErrorInvalidValue;
  emulation_graph* const done = captured;
  captured = nullptr;
  if (invalid) return delete done, cudaErrorStreamCaptureInvalidated;
  *graph = done;
  return cudaSuccess;
}

cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t* nodes, size_t* count) {
  if (nodes != nullptr) emulation::stop("cudaGraphGetNodes for more than the count");
  *count = graph->launches.size();
  return cudaSuccess;
}

cudaError_t cudaGraphInstantiateWithFlags(cudaGraphExec_t* out, cudaGraph_t graph, unsigned long long) {
  void* memory = nullptr;
  if (cudaMalloc(&memory, graph->launches.size() * memory_of_a_launch) != cudaSuccess) return cudaErrorMemoryAllocation;
  *out = new emulation_graph_exec{graph->launches, memory};
  return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t graph, cudaStream_t) {
  if (emulation::is_capturing()) emulation::stop("a graph launched while a stream is captured");
  emulation::forget_predecessor();  // its first launch waits for all before the graph
  for (const auto& launch : graph->launches) launch();
  return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) { return delete graph, cudaSuccess; }
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t graph) { return cudaFree(graph->memory), delete graph, cudaSuccess; }
