// product.cuh in float32 with plain multiply-adds: tiles of 64 x 64 results, 4 x 4 of each thread, depth in steps of 16.
#include "backend/cuda/product.cuh"

namespace ardiff::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kTile = 64;       // rows and columns
constexpr int kDepth = 16;      // channels at a time
constexpr int kOwn = 4;         // results of a thread in each direction
constexpr int kAside = kTile / kOwn;
constexpr int kCopies = kTile * kDepth / kThreads;  // numbers of a tile that a thread copies
constexpr int kRowsAtOnce = kThreads / kDepth;
static_assert(kAside * kAside == kThreads && kCopies * kRowsAtOnce == kTile);

__global__ void __launch_bounds__(kThreads) product_kernel(Product p) {
  __shared__ __align__(16) float a[kDepth][kTile + kOwn];
  __shared__ __align__(16) float b[kDepth][kTile + kOwn];
  const auto* from_a = static_cast<const float*>(p.a);
  const auto* from_b = static_cast<const float*>(p.b);
  const int64_t first_row = static_cast<int64_t>(blockIdx.x) * kTile, first_column = static_cast<int64_t>(blockIdx.y) * kTile;
  const int k = static_cast<int>(threadIdx.x) % kDepth, row = static_cast<int>(threadIdx.x) / kDepth;  // what the thread copies
  Window windows[kCopies];
  bool valid[kCopies];
#pragma unroll
  for (int i = 0; i < kCopies; ++i) {
    const int64_t m = first_row + row + i * kRowsAtOnce;
    valid[i] = m < p.rows;
    windows[i] = conv_window(p.shape, valid[i] ? m : 0);
  }
  const int own_row = static_cast<int>(threadIdx.x) / kAside * kOwn, own_column = static_cast<int>(threadIdx.x) % kAside * kOwn;
  float sums[kOwn][kOwn] = {};
  const int taps = p.shape.kernel * p.shape.kernel;
  for (int tap = 0; tap < taps; ++tap) {
    for (int channel = 0; channel < p.depth; channel += kDepth) {
      const int c = channel + k;
#pragma unroll
      for (int i = 0; i < kCopies; ++i) {
        const int64_t offset = valid[i] && c < p.depth ? tap_offset(p.shape, windows[i], tap / p.shape.kernel, tap % p.shape.kernel) : -1;
        a[k][row + i * kRowsAtOnce] = offset < 0 ? 0.0f : from_a[offset + c];
        const int64_t n = first_column + row + i * kRowsAtOnce;
        b[k][row + i * kRowsAtOnce] = n < p.columns && c < p.depth ? from_b[n * p.b_stride + static_cast<int64_t>(tap) * p.tap_depth + c] : 0.0f;
      }
      __syncthreads();
#pragma unroll
      for (int j = 0; j < kDepth; ++j) {
        const float4 x = *reinterpret_cast<const float4*>(&a[j][own_row]);
        const float4 w = *reinterpret_cast<const float4*>(&b[j][own_column]);
        const float xs[kOwn] = {x.x, x.y, x.z, x.w}, ws[kOwn] = {w.x, w.y, w.z, w.w};
#pragma unroll
        for (int r = 0; r < kOwn; ++r) {
#pragma unroll
          for (int s = 0; s < kOwn; ++s) sums[r][s] = fmaf(xs[r], ws[s], sums[r][s]);
        }
      }
      __syncthreads();
    }
  }
  auto* y = static_cast<float*>(p.y);
#pragma unroll
  for (int r = 0; r < kOwn; ++r) {
#pragma unroll
    for (int s = 0; s < kOwn; ++s) {
      const int64_t m = first_row + own_row + r, n = first_column + own_column + s;
      if (m >= p.rows || n >= p.columns) continue;
      const float value = sums[r][s] + (p.bias != nullptr ? p.bias[n] : 0.0f);
      y[m * p.y_stride + n] = p.adds ? y[m * p.y_stride + n] + value : value;
    }
  }
}

}  // namespace

template <>
void multiply<float>(const Product& p, cudaStream_t stream) {
  if (p.rows == 0) return;
  const dim3 grid(static_cast<unsigned>((p.rows + kTile - 1) / kTile), static_cast<unsigned>((p.columns + kTile - 1) / kTile));
  product_kernel<<<grid, kThreads, 0, stream>>>(p);
}

}  // namespace ardiff::cuda
