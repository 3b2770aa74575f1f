// GroupNorm of channels-last pictures in three kernels: mean and squares of chunks of pixels, the chunks folded in order, and the
// normalisation with silu. Chunks are counted from the picture's first pixel: no other picture of a batch changes them.
#include <cmath>

#include "backend/cuda/cuda_backend.h"
#include "backend/cuda/device.h"
#include "backend/cuda/elements.cuh"
#include "backend/op_checks.h"

namespace ardiff {

using namespace cuda;

namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / 32;
constexpr int kChunkPixels = 64;
constexpr int64_t kMostChannels = 4096;  // their sums lie in shared memory
constexpr int64_t kMostImages = 65535;   // second dimension of a grid

struct Picture {
  int64_t pixels;
  int channels;
  int groups;
  int chunks;
};

// Per channel, the sum over the chunk's pixels of term(channel, value), to sums[channel]. A warp takes every kWarps-th pixel, a lane
// every 32nd channel; what the warps found is added in order.
template <typename Term>
__device__ void channel_sums(const float* x, int64_t pixels, int channels, float (*of_warps)[32], float* sums, Term&& term) {
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  for (int begin = 0; begin < channels; begin += 32) {
    const int c = begin + lane;
    float sum = 0.0f;
    if (c < channels) {
#pragma unroll 8
      for (int64_t p = warp; p < pixels; p += kWarps) sum += term(c, x[p * channels + c]);
    }
    of_warps[warp][lane] = sum;
    __syncthreads();
    if (warp == 0 && c < channels) {
      float total = 0.0f;
      for (int w = 0; w < kWarps; ++w) total += of_warps[w][lane];
      sums[c] = total;
    }
    __syncthreads();
  }
}

// Block (chunk, image): mean of each group in the chunk and the squares around it.
__global__ void __launch_bounds__(kThreads) chunk_moments(const float* x, Picture picture, float2* moments) {
  extern __shared__ float shared[];
  __shared__ float of_warps[kWarps][32];
  float* sums = shared;                      // (channels)
  float* means = shared + picture.channels;  // (groups)
  const int64_t first = static_cast<int64_t>(blockIdx.x) * kChunkPixels;
  const int64_t pixels = min(static_cast<int64_t>(kChunkPixels), picture.pixels - first);
  const int size = picture.channels / picture.groups;
  const float* from = x + (blockIdx.y * picture.pixels + first) * picture.channels;
  const auto of_group = [&](int g) {
    double total = 0.0;
    for (int c = 0; c < size; ++c) total += static_cast<double>(sums[g * size + c]);
    return total;
  };
  channel_sums(from, pixels, picture.channels, of_warps, sums, [](int, float value) { return value; });
  for (int g = static_cast<int>(threadIdx.x); g < picture.groups; g += kThreads) {
    means[g] = static_cast<float>(of_group(g) / static_cast<double>(pixels * size));
  }
  __syncthreads();
  channel_sums(from, pixels, picture.channels, of_warps, sums, [&](int c, float value) {
    const float distance = value - means[c / size];
    return distance * distance;
  });
  float2* to = moments + (static_cast<int64_t>(blockIdx.y) * picture.chunks + blockIdx.x) * picture.groups;
  for (int g = static_cast<int>(threadIdx.x); g < picture.groups; g += kThreads) to[g] = make_float2(means[g], static_cast<float>(of_group(g)));
}

// Count, mean and squares around it of what has been seen so far (Chan et al.).
struct Moments {
  double count, mean, squares;
  __device__ void add(double other_count, double other_mean, double other_squares) {
    if (other_count == 0.0) return;
    const double total = count + other_count, distance = other_mean - mean;
    mean += distance * (other_count / total);
    squares += other_squares + distance * distance * (count * (other_count / total));
    count = total;
  }
};

// Block (group, image): its chunks, every kThreads-th by one thread, then the threads in order. stats: mean, 1 / sqrt(var + eps).
__global__ void __launch_bounds__(kThreads) fold_chunks(const float2* moments, Picture picture, float eps, float2* stats) {
  __shared__ double counts[kThreads], means[kThreads], squares[kThreads];
  const int size = picture.channels / picture.groups;
  Moments own{0.0, 0.0, 0.0};
  for (int64_t chunk = threadIdx.x; chunk < picture.chunks; chunk += kThreads) {
    const float2 of_chunk = moments[(blockIdx.y * static_cast<int64_t>(picture.chunks) + chunk) * picture.groups + blockIdx.x];
    const int64_t pixels = min(static_cast<int64_t>(kChunkPixels), picture.pixels - chunk * kChunkPixels);
    own.add(static_cast<double>(pixels * size), static_cast<double>(of_chunk.x), static_cast<double>(of_chunk.y));
  }
  counts[threadIdx.x] = own.count;
  means[threadIdx.x] = own.mean;
  squares[threadIdx.x] = own.squares;
  __syncthreads();
  for (int width = kThreads / 2; width > 0; width /= 2) {
    if (threadIdx.x < width) {
      Moments sum{counts[threadIdx.x], means[threadIdx.x], squares[threadIdx.x]};
      sum.add(counts[threadIdx.x + width], means[threadIdx.x + width], squares[threadIdx.x + width]);
      counts[threadIdx.x] = sum.count;
      means[threadIdx.x] = sum.mean;
      squares[threadIdx.x] = sum.squares;
    }
    __syncthreads();
  }
  if (threadIdx.x == 0) {
    const auto variance = static_cast<float>(squares[0] / counts[0]);
    stats[static_cast<int64_t>(blockIdx.y) * picture.groups + blockIdx.x] = make_float2(static_cast<float>(means[0]), 1.0f / sqrtf(variance + eps));
  }
}

// kVec numbers of one pixel per thread and turn; count in such.
template <typename T, int kVec>
__global__ void normalize(const float* x, const float* w, const float* b, const float2* stats, Picture picture, bool silu, int64_t count, T* y) {
  const int size = picture.channels / picture.groups;
  for (int64_t i = first_item(); i < count; i += item_step()) {
    const int64_t at = i * kVec;
    const int c = static_cast<int>(at % picture.channels);
    const float2* of_image = stats + at / picture.channels / picture.pixels * picture.groups;
    float values[kVec];
    load_elements<kVec>(x + at, values);
#pragma unroll
    for (int e = 0; e < kVec; ++e) {
      const float2 s = of_image[(c + e) / size];
      const float n = (values[e] - s.x) * s.y * w[c + e] + b[c + e];
      values[e] = silu ? n / (1.0f + expf(-n)) : n;
    }
    store_elements<kVec>(y + at, values);
  }
}

}  // namespace

void CudaBackend::group_norm(const TensorView& x, const TensorView& w, const TensorView& b, int64_t groups, float eps, bool silu,
                             const TensorView& y) {
  op_checks::group_norm(x, w, b, groups, y);
  if (x.shape.size() == 0) return;
  const int64_t images = x.shape[0], pixels = x.shape[1] * x.shape[2], channels = x.shape[3];
  check(images <= kMostImages && channels <= kMostChannels, ErrorCode::kInternal, "group_norm: at most ", kMostImages, " pictures of ",
        kMostChannels, " channels, got ", x.shape.text());
  const Picture picture{pixels, static_cast<int>(channels), static_cast<int>(groups), static_cast<int>((pixels + kChunkPixels - 1) / kChunkPixels)};
  // Moments of (image, chunk, group), then of (image, group).
  const int64_t of_chunks = images * picture.chunks * groups;
  auto* moments = workspace_.get<float2>(of_chunks + images * groups);
  float2* stats = moments + of_chunks;
  const size_t shared = static_cast<size_t>(channels + groups) * sizeof(float);
  const auto image_count = static_cast<unsigned>(images);
  chunk_moments<<<dim3(static_cast<unsigned>(picture.chunks), image_count), kThreads, shared, stream_>>>(floats(x), picture, moments);
  check_launch("group_norm");
  fold_chunks<<<dim3(static_cast<unsigned>(groups), image_count), kThreads, 0, stream_>>>(moments, picture, eps, stats);
  check_launch("group_norm");
  visit_element(y.dtype, [&](auto type) {
    using T = decltype(type);
    const int64_t count = x.shape.size();
    if (channels % 4 == 0) {
      normalize<T, 4><<<blocks_for(count / 4), kBlock, 0, stream_>>>(floats(x), floats(w), floats(b), stats, picture, silu, count / 4, elements<T>(y));
    } else {
      normalize<T, 1><<<blocks_for(count), kBlock, 0, stream_>>>(floats(x), floats(w), floats(b), stats, picture, silu, count, elements<T>(y));
    }
  });
  check_launch("group_norm");
}

}  // namespace ardiff
