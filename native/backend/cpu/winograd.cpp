#include "backend/cpu/winograd.h"

#include <algorithm>

#include "backend/cpu/panels.h"
#include "backend/host_memory.h"

namespace ardiff::cpu {

namespace {

constexpr int64_t kChannelGroup = 32;  // of winograd-inl.h
constexpr double kG[4][3] = {{1, 0, 0}, {.5, .5, .5}, {.5, -.5, .5}, {0, 0, 1}};

// Where a channel stands among its group: even ones first.
int64_t channel_at(int64_t position) {
  const int64_t in_group = position % kChannelGroup, half = kChannelGroup / 2;
  return position - in_group + (in_group < half ? 2 * in_group : 2 * (in_group - half) + 1);
}

}  // namespace

bool Winograd::suits(const Kernels& kernels, const Shape& weight, ConvPadding padding) {
  return kernels.winograd && padding == ConvPadding::kSame && weight[2] == 3 && weight[0] >= 16 && weight[1] % kChannelGroup == 0;
}

Winograd::Winograd(const Kernels& kernels, const float* weight, const float* bias, int64_t out, int64_t in) : kernels_(kernels), out_(out), in_(in) {
  const PanelShape shape{out, in, kernels.panel_columns, DType::kBF16};
  points_ = allocate_host(static_cast<size_t>(kWinogradPoints * shape.elements()) * sizeof(bf16_t));
  std::vector<float> column(static_cast<size_t>(in));
  for (int64_t point = 0; point < kWinogradPoints; ++point) {
    bf16_t* panels = reinterpret_cast<bf16_t*>(points_.get()) + point * shape.elements();
    for (int64_t n = 0; n < out; ++n) {
      for (int64_t position = 0; position < in; ++position) {
        const float* g = weight + (n * in + channel_at(position)) * 9;
        double sum = 0;
        for (int r = 0; r < 3; ++r) {
          for (int c = 0; c < 3; ++c) sum += kG[point / 4][r] * kG[point % 4][c] * static_cast<double>(g[3 * r + c]);
        }
        column[static_cast<size_t>(position)] = static_cast<float>(sum);
      }
      put_column(shape, panels, n, column.data());
    }
  }
  bias_.assign(static_cast<size_t>(shape.padded_columns()), 0.0f);
  std::copy(bias, bias + out, bias_.begin());
}

void Winograd::run(ThreadPool& pool, ReusableMemory& memory, const uint16_t* x, int64_t images, int64_t height, int64_t width,
                   bool upsampled, bool adds, float* y) const {
  const int64_t x_pixels = height * width;
  if (upsampled) height *= 2, width *= 2;
  const int64_t tiles = (height + 1) / 2 * ((width + 1) / 2);
  // As many tiles at a time as there is room for, in equal shares that all threads can take part in.
  int64_t chunks = (tiles + kWinogradTiles - 1) / kWinogradTiles;
  if (tiles >= pool.threads()) chunks = (chunks + pool.threads() - 1) / pool.threads() * pool.threads();
  chunks = std::min(chunks, tiles);
  // Points a little more than a power of two apart, or they would meet in the same few lines of the cache.
  const int64_t input_stride = kWinogradTiles * in_ + kChannelGroup;
  const int64_t products = kWinogradPoints * kWinogradTiles * kernels_.panel_columns;
  const int64_t floats_each = products + kWinogradPoints * input_stride / 2;
  float* room = memory.get<float>(floats_each * pool.threads());
  // Pictures are shared out whole where there are many: a job has a limited number of chunks.
  const int64_t shares = std::min<int64_t>(images * chunks, 4096);
  pool.run(shares, [&](int64_t share, int worker) {
    for (int64_t item = images * chunks * share / shares; item < images * chunks * (share + 1) / shares; ++item) {
      const int64_t image = item / chunks, chunk = item % chunks;
      WinogradTask task{};
      task.x = x + image * x_pixels * in_;
      task.height = height;
      task.width = width;
      task.in = in_;
      task.out = out_;
      task.upsampled = upsampled;
      task.weights = points_.get();
      task.bias = bias_.data();
      task.y = y + image * height * width * out_;
      task.adds = adds;
      task.tile_begin = tiles * chunk / chunks;
      task.tile_end = tiles * (chunk + 1) / chunks;
      task.products = room + worker * floats_each;
      task.inputs = reinterpret_cast<uint16_t*>(task.products + products);
      task.input_stride = input_stride;
      kernels_.winograd(task);
    }
  });
}

}  // namespace ardiff::cpu
