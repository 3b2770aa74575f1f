// Linear layers in float32 by plain fused multiply-adds: tiles of 64 x 64 results, 4 x 4 of each thread, depth in steps of 16
// through shared memory. Every result is one chain of sums in the order of the depth.
#include "backend/cuda/linear.cuh"

namespace ardiff::cuda {
namespace {

constexpr int kTile = 64;
constexpr int kDepth = 16;
constexpr int kOwn = 4;  // results of a thread in each direction
constexpr int kAside = kTile / kOwn;
constexpr int kRowsAtOnce = kBlock / kDepth;  // rows of a tile that all threads copy in one turn
static_assert(kAside * kAside == kBlock);

// Numbers [begin, begin + kDepth) of rows [first, first + kTile), zeros where there are none.
template <typename T>
__device__ void load_tile(const T* from, int64_t stride, int64_t first, int64_t rows, int begin, int depth, float (*to)[kTile + kOwn]) {
  const int k = static_cast<int>(threadIdx.x) % kDepth;
#pragma unroll
  for (int row = static_cast<int>(threadIdx.x) / kDepth; row < kTile; row += kRowsAtOnce) {
    to[k][row] = first + row < rows && begin + k < depth ? to_float(from[(first + row) * stride + begin + k]) : 0.0f;
  }
}

template <typename T>
__global__ void __launch_bounds__(kBlock) linear_kernel(LinearTask t) {
  __shared__ __align__(16) float x[kDepth][kTile + kOwn];
  __shared__ __align__(16) float w[kDepth][kTile + kOwn];
  const int64_t first_column = static_cast<int64_t>(blockIdx.x) * kTile, first_row = static_cast<int64_t>(blockIdx.y) * kTile;
  const int own_row = static_cast<int>(threadIdx.x) / kAside * kOwn, own_column = static_cast<int>(threadIdx.x) % kAside * kOwn;
  float sums[kOwn][kOwn] = {};
  for (int begin = 0; begin < t.depth; begin += kDepth) {
    load_tile(static_cast<const T*>(t.x), t.x_stride, first_row, t.rows, begin, t.depth, x);
    load_tile(static_cast<const float*>(t.weight), t.depth, first_column, t.columns, begin, t.depth, w);
    __syncthreads();
#pragma unroll
    for (int k = 0; k < kDepth; ++k) {
      const float4 a = *reinterpret_cast<const float4*>(&x[k][own_row]), b = *reinterpret_cast<const float4*>(&w[k][own_column]);
      const float rows[kOwn] = {a.x, a.y, a.z, a.w}, columns[kOwn] = {b.x, b.y, b.z, b.w};
#pragma unroll
      for (int i = 0; i < kOwn; ++i) {
#pragma unroll
        for (int j = 0; j < kOwn; ++j) sums[i][j] = __fmaf_rn(rows[i], columns[j], sums[i][j]);
      }
    }
    __syncthreads();
  }
#pragma unroll
  for (int i = 0; i < kOwn; ++i) {
#pragma unroll
    for (int j = 0; j < kOwn; ++j) {
      const int64_t m = first_row + own_row + i, n = first_column + own_column + j;
      if (m < t.rows && n < t.columns) finish(t, m, static_cast<int>(n), sums[i][j]);
    }
  }
}

}  // namespace

template <typename T>
void launch_linear_f32(const LinearTask& t, cudaStream_t stream) {
  const dim3 grid(static_cast<unsigned>(ceil_div(t.columns, kTile)), static_cast<unsigned>(ceil_div(t.rows, kTile)));
  linear_kernel<T><<<grid, kBlock, 0, stream>>>(t);
  check_launch("linear");
}

template void launch_linear_f32<float>(const LinearTask& t, cudaStream_t stream);
template void launch_linear_f32<bf16>(const LinearTask& t, cudaStream_t stream);

}  // namespace ardiff::cuda
