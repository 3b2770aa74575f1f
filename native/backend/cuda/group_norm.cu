// GroupNorm of channels-last pictures in three kernels: mean and squares of chunks of pixels, the chunks folded in order, and the
// normalisation with silu. Chunks are counted from the picture's first pixel: no other picture of a batch changes them.
//
// A thread of the first and the last kernel has kVec channels of one group and every so many pixels, so that nothing is divided per number;
// the first keeps its pixels in registers from the mean to the squares around it.
#include <algorithm>
#include <cmath>
#include <type_traits>

#include "backend/cuda/cuda_backend.h"
#include "backend/cuda/device.h"
#include "backend/cuda/elements.cuh"
#include "backend/op_checks.h"

namespace ardiff {

using namespace cuda;

namespace {

constexpr int kThreads = 256;
constexpr int kHeld = 8;               // pixels of a thread in a chunk
constexpr int kNormalized = 16;        // pixels of a thread in the last kernel
constexpr int64_t kMostImages = 65535; // third dimension of a grid

// How threads lie over a picture: a line of them has one pixel, lines stand below each other. Where a block has not room for all groups,
// others have the rest.
struct Picture {
  int64_t pixels;
  int channels, groups, size;  // channels of a group
  int groups_at_once, line, lines;
  int chunks;
  __host__ __device__ int chunk_pixels() const { return lines * kHeld; }
};

// Numbers of a group that a thread takes at a time.
int vector_of(int64_t size) { return size % 4 == 0 ? 4 : size % 2 == 0 ? 2 : 1; }

Picture picture_of(int64_t pixels, int64_t channels, int64_t groups) {
  const int64_t size = channels / groups;
  const int vec = vector_of(size);
  check(size <= kThreads * vec, ErrorCode::kInternal, "group_norm: at most ", kThreads * vec, " channels in a group of a number that ", vec,
        " divides, got ", size);
  Picture out{pixels, static_cast<int>(channels), static_cast<int>(groups), static_cast<int>(size), 0, 0, 0, 0};
  out.groups_at_once = static_cast<int>(std::min<int64_t>(groups, kThreads * vec / size));
  out.line = out.groups_at_once * out.size / vec;
  out.lines = kThreads / out.line;
  out.chunks = static_cast<int>(ceil_div(pixels, out.chunk_pixels()));
  return out;
}

// A thread's place. Threads behind the last line, and behind the last group, have nothing.
template <int kVec>
struct Place {
  int line, channel, group;
  bool used;
  __device__ explicit Place(const Picture& p) {
    const int thread = static_cast<int>(threadIdx.x);
    line = thread / p.line;
    channel = static_cast<int>(blockIdx.y) * p.groups_at_once * p.size + thread % p.line * kVec;
    group = channel / p.size;
    used = line < p.lines && channel < p.channels;
  }
};

// The sum of each group from those of its threads, line by line, told to(group of the block, sum).
template <int kVec, typename To>
__device__ void sum_groups(float of_thread, const Picture& p, float* of_threads, To&& to) {
  of_threads[threadIdx.x] = of_thread;
  __syncthreads();
  const int g = static_cast<int>(threadIdx.x), across = p.size / kVec;
  if (g < p.groups_at_once && static_cast<int>(blockIdx.y) * p.groups_at_once + g < p.groups) {
    double total = 0.0;
    for (int line = 0; line < p.lines; ++line) {
      for (int i = 0; i < across; ++i) total += static_cast<double>(of_threads[line * p.line + g * across + i]);
    }
    to(g, total);
  }
  __syncthreads();
}

// Block (chunk, groups, image): mean of each group in the chunk and the squares around it, to moments[image][group][chunk].
template <int kVec>
__global__ void __launch_bounds__(kThreads) chunk_moments(const float* x, Picture p, float2* moments) {
  __shared__ float of_threads[kThreads], means[kThreads];
  const Place<kVec> place(p);
  const int64_t first = static_cast<int64_t>(blockIdx.x) * p.chunk_pixels();
  const int pixels = static_cast<int>(min(static_cast<int64_t>(p.chunk_pixels()), p.pixels - first));
  const float* const from = x + (blockIdx.z * p.pixels + first) * p.channels + place.channel;
  float held[kHeld][kVec] = {};
#pragma unroll
  for (int i = 0; i < kHeld; ++i) {
    const int pixel = place.line + i * p.lines;
    if (place.used && pixel < pixels) load_elements<kVec>(from + static_cast<int64_t>(pixel) * p.channels, held[i]);
  }
  float sum = 0.0f;
#pragma unroll
  for (int i = 0; i < kHeld; ++i) {
#pragma unroll
    for (int e = 0; e < kVec; ++e) sum += held[i][e];
  }
  const double count = static_cast<double>(pixels) * p.size;
  sum_groups<kVec>(sum, p, of_threads, [&](int g, double total) { means[g] = static_cast<float>(total / count); });
  const float mean = place.used ? means[place.group - static_cast<int>(blockIdx.y) * p.groups_at_once] : 0.0f;
  sum = 0.0f;
#pragma unroll
  for (int i = 0; i < kHeld; ++i) {
    if (place.line + i * p.lines >= pixels) break;
#pragma unroll
    for (int e = 0; e < kVec; ++e) sum += (held[i][e] - mean) * (held[i][e] - mean);
  }
  sum_groups<kVec>(place.used ? sum : 0.0f, p, of_threads, [&](int g, double total) {
    const int64_t group = static_cast<int64_t>(blockIdx.z) * p.groups + static_cast<int64_t>(blockIdx.y) * p.groups_at_once + g;
    moments[group * p.chunks + blockIdx.x] = make_float2(means[g], static_cast<float>(total));
  });
}

// All threads get the sum, of the threads' in the order of a tree.
__device__ double block_total(double of_thread, double* of_threads) {
  of_threads[threadIdx.x] = of_thread;
  __syncthreads();
  for (int width = kThreads / 2; width > 0; width /= 2) {
    if (threadIdx.x < width) of_threads[threadIdx.x] += of_threads[threadIdx.x + width];
    __syncthreads();
  }
  const double total = of_threads[0];
  __syncthreads();
  return total;
}

// Block (group, image): its chunks, every kThreads-th by one thread, twice, as the squares are those around the mean of all.
// stats: mean, 1 / sqrt(var + eps).
__global__ void __launch_bounds__(kThreads) fold_chunks(const float2* moments, Picture p, float eps, float2* stats) {
  __shared__ double of_threads[kThreads];
  const int64_t group = static_cast<int64_t>(blockIdx.y) * p.groups + blockIdx.x;
  const float2* const of_chunks = moments + group * p.chunks;
  const auto count_of = [&](int chunk) {
    const int64_t pixels = min(static_cast<int64_t>(p.chunk_pixels()), p.pixels - static_cast<int64_t>(chunk) * p.chunk_pixels());
    return static_cast<double>(pixels * p.size);
  };
  const double count = static_cast<double>(p.pixels) * p.size;
  double own = 0.0;
#pragma unroll 4
  for (int chunk = static_cast<int>(threadIdx.x); chunk < p.chunks; chunk += kThreads) own += count_of(chunk) * static_cast<double>(of_chunks[chunk].x);
  const double mean = block_total(own, of_threads) / count;
  own = 0.0;
#pragma unroll 4
  for (int chunk = static_cast<int>(threadIdx.x); chunk < p.chunks; chunk += kThreads) {
    const double distance = static_cast<double>(of_chunks[chunk].x) - mean;
    own += static_cast<double>(of_chunks[chunk].y) + count_of(chunk) * distance * distance;
  }
  const double squares = block_total(own, of_threads);
  if (threadIdx.x == 0) {
    const auto variance = static_cast<float>(squares / count);
    stats[group] = make_float2(static_cast<float>(mean), 1.0f / sqrtf(variance + eps));
  }
}

// Block (pixels, groups, image).
template <typename T, int kVec>
__global__ void __launch_bounds__(kThreads) normalize(const float* x, const float* w, const float* b, const float2* stats, Picture p, bool silu, T* y) {
  const Place<kVec> place(p);
  if (!place.used) return;
  const float2 s = stats[static_cast<int64_t>(blockIdx.z) * p.groups + place.group];
  float weights[kVec], biases[kVec];
  load_elements<kVec>(w + place.channel, weights);
  load_elements<kVec>(b + place.channel, biases);
  const int64_t first = static_cast<int64_t>(blockIdx.x) * p.lines * kNormalized + place.line;
  const int64_t at = (blockIdx.z * p.pixels + first) * p.channels + place.channel, step = static_cast<int64_t>(p.lines) * p.channels;
#pragma unroll 4
  for (int i = 0; i < kNormalized; ++i) {
    if (first + static_cast<int64_t>(i) * p.lines >= p.pixels) return;
    float values[kVec];
    load_elements<kVec>(x + at + i * step, values);
#pragma unroll
    for (int e = 0; e < kVec; ++e) {
      const float n = (values[e] - s.x) * s.y * weights[e] + biases[e];
      values[e] = silu ? n / (1.0f + expf(-n)) : n;
    }
    store_elements<kVec>(y + at + i * step, values);
  }
}

// Calls visit with the numbers that a thread takes at a time as an integral constant.
template <typename Visit>
void visit_vector(int64_t size, Visit&& visit) {
  switch (vector_of(size)) {
    case 4: return visit(std::integral_constant<int, 4>{});
    case 2: return visit(std::integral_constant<int, 2>{});
    default: return visit(std::integral_constant<int, 1>{});
  }
}

}  // namespace

void CudaBackend::group_norm(const TensorView& x, const TensorView& w, const TensorView& b, int64_t groups, float eps, bool silu,
                             const TensorView& y) {
  op_checks::group_norm(x, w, b, groups, y);
  if (x.shape.size() == 0) return;
  const int64_t images = x.shape[0];
  check(images <= kMostImages, ErrorCode::kInternal, "group_norm: at most ", kMostImages, " pictures, got ", x.shape.text());
  check(vector_of(x.shape[3] / groups) < 4 || (lies_by_four(x.data, 0) && lies_by_four(w.data, 0) && lies_by_four(b.data, 0) &&
                                                lies_by_four(y.data, 0, dtype_size(y.dtype))),
        ErrorCode::kInternal, "group_norm: pictures and weights at whole four numbers");
  const Picture p = picture_of(x.shape[1] * x.shape[2], x.shape[3], groups);
  // Moments of (image, group, chunk), then of (image, group).
  const int64_t of_chunks = images * p.chunks * groups;
  auto* moments = workspace_.get<float2>(of_chunks + images * groups);
  float2* stats = moments + of_chunks;
  const auto parts = static_cast<unsigned>(ceil_div(groups, p.groups_at_once)), image_count = static_cast<unsigned>(images);
  visit_vector(p.size, [&](auto vector) {
    constexpr int kVec = decltype(vector)::value;
    chunk_moments<kVec><<<dim3(static_cast<unsigned>(p.chunks), parts, image_count), kThreads, 0, stream_>>>(floats(x), p, moments);
    check_launch("group_norm");
    fold_chunks<<<dim3(static_cast<unsigned>(groups), image_count), kThreads, 0, stream_>>>(moments, p, eps, stats);
    check_launch("group_norm");
    const dim3 blocks(static_cast<unsigned>(ceil_div(p.pixels, static_cast<int64_t>(p.lines) * kNormalized)), parts, image_count);
    visit_element(y.dtype, [&](auto type) {
      using T = decltype(type);
      normalize<T, kVec><<<blocks, kThreads, 0, stream_>>>(floats(x), floats(w), floats(b), stats, p, silu, elements<T>(y));
    });
    check_launch("group_norm");
  });
}

}  // namespace ardiff
