#include "device_bandwidth.h"

#include <cuda_runtime.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>

namespace ardiff::bench {
namespace {

constexpr size_t kBytes = size_t{1} << 30;
constexpr int kThreads = 256;
constexpr int kRepeats = 10;

void check(cudaError_t status) {
  if (status == cudaSuccess) return;
  std::fprintf(stderr, "device bandwidth: %s\n", cudaGetErrorString(status));
  std::exit(1);
}

// Four loads of 16 bytes in flight per thread.
__global__ void read_kernel(const uint4* from, size_t count, unsigned* sink) {
  const size_t step = static_cast<size_t>(gridDim.x) * blockDim.x;
  unsigned sum = 0;
  for (size_t i = static_cast<size_t>(blockIdx.x) * blockDim.x + threadIdx.x; i + 3 * step < count; i += 4 * step) {
    uint4 words[4];
#pragma unroll
    for (int j = 0; j < 4; ++j) words[j] = __ldcs(from + i + j * step);
#pragma unroll
    for (int j = 0; j < 4; ++j) sum ^= words[j].x ^ words[j].y ^ words[j].z ^ words[j].w;
  }
  if (sum == 0x12345678u) *sink = sum;  // keeps the loads
}

template <typename Run>
double best_seconds(Run&& run) {
  cudaEvent_t begin, end;
  check(cudaEventCreate(&begin));
  check(cudaEventCreate(&end));
  float best = 1e30f;
  for (int i = 0; i < kRepeats; ++i) {
    check(cudaEventRecord(begin));
    run();
    check(cudaGetLastError());
    check(cudaEventRecord(end));
    check(cudaEventSynchronize(end));
    float milliseconds = 0;
    check(cudaEventElapsedTime(&milliseconds, begin, end));
    if (i > 0) best = std::min(best, milliseconds);
  }
  check(cudaEventDestroy(begin));
  check(cudaEventDestroy(end));
  return best * 1e-3;
}

}  // namespace

DeviceBandwidth device_bandwidth() {
  cudaDeviceProp device{};
  check(cudaGetDeviceProperties(&device, 0));
  void *a = nullptr, *b = nullptr;
  check(cudaMalloc(&a, kBytes));
  check(cudaMalloc(&b, kBytes));
  check(cudaMemset(a, 1, kBytes));
  DeviceBandwidth out{};
  out.copy = 2.0 * kBytes / best_seconds([&] { check(cudaMemcpyAsync(b, a, kBytes, cudaMemcpyDeviceToDevice)); });
  const unsigned blocks = static_cast<unsigned>(device.multiProcessorCount) * 8;
  out.read = static_cast<double>(kBytes) / best_seconds([&] {
    read_kernel<<<blocks, kThreads>>>(static_cast<const uint4*>(a), kBytes / sizeof(uint4), static_cast<unsigned*>(b));
  });
  check(cudaFree(a));
  check(cudaFree(b));
  return out;
}

size_t free_device_memory() {
  size_t free = 0, total = 0;
  check(cudaMemGetInfo(&free, &total));
  return free;
}

}  // namespace ardiff::bench
