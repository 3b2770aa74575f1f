#include <algorithm>
#include <cmath>

#include "backend/cpu/cpu_backend.h"
#include "backend/cpu/thread_pool.h"
#include "backend/cpu/view_data.h"
#include "backend/op_checks.h"

namespace ardiff {

using namespace cpu;

namespace {

// Sums are taken over chunks of this many pixels and the chunks' sums added in order, in double: neither the
// number of threads nor the picture's size costs digits or changes the order.
constexpr int64_t kChunkPixels = 256;

// Mean over pixels and the channels of each group of what per_chunk wrote (one row of channels per chunk).
void group_means(const float* sums, int64_t chunks, int64_t channels, int64_t groups, int64_t pixels, float* mean_by_channel) {
  const int64_t size = channels / groups;
  for (int64_t g = 0; g < groups; ++g) {
    double total = 0.0;
    for (int64_t chunk = 0; chunk < chunks; ++chunk) {
      for (int64_t c = 0; c < size; ++c) total += static_cast<double>(sums[chunk * channels + g * size + c]);
    }
    const auto mean = static_cast<float>(total / static_cast<double>(pixels * size));
    std::fill(mean_by_channel + g * size, mean_by_channel + (g + 1) * size, mean);
  }
}

}  // namespace

void CpuBackend::group_norm(const TensorView& x, const TensorView& w, const TensorView& b, int64_t groups, float eps, bool silu,
                            const TensorView& y) {
  op_checks::group_norm(x, w, b, groups, y);
  const int64_t channels = x.shape[3];
  const int64_t pixels = x.shape[1] * x.shape[2];
  const int64_t chunks = (pixels + kChunkPixels - 1) / kChunkPixels;
  float* sums = sums_.get<float>((chunks + 3) * channels);
  float* mean = sums + chunks * channels;
  float* variance = mean + channels;
  float* scale = variance + channels;
  auto for_chunks = [&](int64_t cost, auto&& body) {
    pool_.run_ranges(chunks, cost * kChunkPixels * channels, [&](int64_t begin, int64_t end) {
      for (int64_t chunk = begin; chunk < end; ++chunk) body(chunk, chunk * kChunkPixels, std::min(kChunkPixels, pixels - chunk * kChunkPixels));
    });
  };
  for (int64_t image = 0; image < x.shape[0]; ++image) {
    const float* from = floats(x) + image * pixels * channels;
    std::byte* to = y.data + static_cast<size_t>(image * pixels * channels) * dtype_size(y.dtype);
    for_chunks(1, [&](int64_t chunk, int64_t first, int64_t count) {
      kernels_->channel_sums(from + first * channels, count, channels, sums + chunk * channels);
    });
    group_means(sums, chunks, channels, groups, pixels, mean);
    for_chunks(1, [&](int64_t chunk, int64_t first, int64_t count) {
      kernels_->channel_squares(from + first * channels, mean, count, channels, sums + chunk * channels);
    });
    group_means(sums, chunks, channels, groups, pixels, variance);
    for (int64_t c = 0; c < channels; ++c) scale[c] = floats(w)[c] / std::sqrt(variance[c] + eps);
    for_chunks(silu ? 4 : 1, [&](int64_t, int64_t first, int64_t count) {
      kernels_->scale_shift(from + first * channels, mean, scale, floats(b), count, channels, silu,
                            to + static_cast<size_t>(first * channels) * dtype_size(y.dtype), is_bf16(y));
    });
  }
}

}  // namespace ardiff
