// CUDA kernels as plain C++, run on the host: what nvcc's language has and C++ has not, for sources that translate.py has rewritten.
// Every thread of a block is a fiber; __syncthreads and what a warp does together switch between fibers, in an order that a seed
// shuffles. Clusters run one after the other, a block is one where a launch names none. Finds wrong indices, missing barriers, barriers and
// shuffles that not all threads reach, waits that nobody ends and reads beyond allocations; says nothing of speed, and rounds as the host
// does.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <type_traits>

#define __global__
#define __device__
#define __host__
#define __align__(n) __attribute__((aligned(n)))
#define __launch_bounds__(...)

struct uint3 {
  unsigned x, y, z;
};
struct dim3 {
  unsigned x, y, z;
  dim3(unsigned a = 1, unsigned b = 1, unsigned c = 1) : x(a), y(b), z(c) {}  // NOLINT(google-explicit-constructor): as CUDA's
};
struct alignas(8) float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
struct alignas(8) uint2 {
  unsigned x, y;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }

extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;

namespace emulation {

struct Shape {
  bool dependent;    // it may begin before the launch before it has ended (dependencies.cpp)
  unsigned cluster;  // blocks of one, beside each other
  dim3 grid, block;
  size_t shared_bytes;
};

// Runs body once for every thread of every block. Ends the process, saying why, at what would be undefined on a device.
void run(const Shape& shape, const std::function<void()>& body);
uint64_t launch_number();  // of the launch that runs

constexpr unsigned kMostBlockThreads = 1024, kMostCluster = 8, kMostThreads = kMostBlockThreads * kMostCluster;

// Of the running fiber: its number in the cluster, its lane, its block in the cluster; the value that a lane brings.
int thread();
inline int lane() { return thread() % 32; }
unsigned block_of_cluster();
bool has_ended(unsigned block);  // of the cluster
uint64_t exchange(uint64_t value, int source_lane);
// Waiting for the threads of the block, of the warp, of the cluster; for so many of the block, whichever; for something that others do.
void sync_threads();
void sync_warp();
void sync_cluster();
void sync_some(int threads);
void wait_until(std::function<bool()> condition);
// What the device does by itself at some time from now on: as late as it may or, shuffled, at any time and in any order.
void later(std::function<void()> work);
// Whether to do early what may also be done late; in order, never. The same for the same key in a launch.
bool is_early(uint64_t key);

// The shared memory of the block that runs: dynamic memory, then what kernels declare, each at one place for all blocks of a launch. Not a
// number wherever the kernel has written none. `declaration` is another for each.
void* dynamic_shared();
void* static_shared(const void* declaration, size_t bytes, size_t alignment);
uint32_t shared_offset(const void* shared);                           // as an address of a device's shared memory
std::byte* shared_at(unsigned block, uint32_t offset, size_t bytes);  // of a block of the cluster

// Of a kernel that is launched as dependent (native/backend/cuda/dependent_launch.cuh); no launch to wait for after a copy.
void wait_for_predecessor();
void let_successor_begin();
void forget_predecessor();
[[noreturn]] void stop(const char* why);

// While a stream is captured, launches are kept instead of run (graphs.cpp).
bool is_capturing();
void capture(std::function<void()> launch);
// Of a call that a captured stream does not allow: true if there is one, and it is invalid from then on.
bool forbidden_in_capture();

// kernel(arguments...) in every thread; arguments are copied once, as a launch does: into the graph if one is captured.
template <typename Kernel, typename... Arguments>
void launch_as(const Shape& shape, Kernel kernel, Arguments... arguments) {
  if (is_capturing()) return capture([=] { run(shape, [&] { kernel(arguments...); }); });
  run(shape, [&] { kernel(arguments...); });
}
template <typename Kernel, typename... Arguments>
void launch(dim3 grid, dim3 block, size_t shared_bytes, Kernel kernel, Arguments... arguments) {
  launch_as({false, 1, grid, block, shared_bytes}, kernel, arguments...);
}

template <typename T>
T shuffle(T value, int source_lane) {
  static_assert(sizeof(T) <= sizeof(uint64_t));
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof value);
  bits = exchange(bits, source_lane);
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

}  // namespace emulation

inline void __syncthreads() { emulation::sync_threads(); }
inline void __syncwarp() { emulation::sync_warp(); }
inline size_t __cvta_generic_to_shared(const void* shared) { return emulation::shared_offset(shared); }
template <typename T>
T __shfl_xor_sync(unsigned, T value, int mask) {
  return emulation::shuffle(value, emulation::lane() ^ mask);
}

template <typename A, typename B, typename = std::enable_if_t<std::is_arithmetic_v<A> && std::is_arithmetic_v<B>>>
constexpr auto min(A a, B b) {
  using T = std::common_type_t<A, B>;
  return std::min<T>(a, b);
}
template <typename A, typename B, typename = std::enable_if_t<std::is_arithmetic_v<A> && std::is_arithmetic_v<B>>>
constexpr auto max(A a, B b) {
  using T = std::common_type_t<A, B>;
  return std::max<T>(a, b);
}

inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fsqrt_rn(float a) { return std::sqrt(a); }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }
inline int __float2int_rn(float a) { return static_cast<int>(std::lrint(a)); }
inline unsigned __float_as_uint(float a) { return std::bit_cast<unsigned>(a); }
inline float __uint_as_float(unsigned bits) { return std::bit_cast<float>(bits); }
template <typename T>
T __ldcs(const T* from) {
  return *from;
}
template <typename T>
T __ldg(const T* from) {
  return *from;
}
