// The cuda backend beside the device: linear layers of NextStep-1 14B and of 4096 x 4096 against measured memory bandwidth, paged
// attention, and the backbone's step and the flow head at true sizes with made-up weights. Prints markdown.
//
//   cuda_bench [products|attention|decode|head ...]      default: everything
#include <cstdio>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "backend/scratch.h"
#include "device_bandwidth.h"
#include "model/backbone.h"
#include "model/flow_head.h"
#include "timing.h"

namespace ardiff::bench {
namespace {

// NextStep-1 14B. As many layers as measure: the time of one is what counts, 48 are printed.
constexpr BackboneConfig kBackbone{5120, 13824, 8, 40, 8, 128, 152064, 4096, 1e-6f, 1e6f};
constexpr int64_t kModelLayers = 48;
constexpr int64_t kHeadWidth = 1536, kHeadBlocks = 12, kTokenSize = 64;
constexpr int64_t kBlockTokens = 16;
constexpr int64_t kColdBytes = int64_t{256} << 20;  // weights in turns: more than any level of cache holds

// Made-up weights, small enough that nothing overflows. One buffer is behind all of them: values do not matter to time.
class Weights {
 public:
  explicit Weights(Backend& backend) : backend_(backend) {}

  std::unique_ptr<Linear> linear(int64_t in, int64_t out) {
    grow(in * out);
    const LinearPart part{{values_.data(), DType::kBF16, {out, in}, "bench"}, {}};
    return backend_.prepare_linear({&part, 1});
  }
  Tensor vector(int64_t size) {
    const std::vector<float> ones(static_cast<size_t>(size), 1.0f);
    Tensor out = backend_.make(DType::kF32, {size});
    backend_.upload(out, ones.data());
    return out;
  }

 private:
  void grow(int64_t count) {
    std::minstd_rand random(static_cast<unsigned>(values_.size()) + 1);
    while (static_cast<int64_t>(values_.size()) < count) values_.push_back(f32_to_bf16(0.02f * (static_cast<float>(random() % 2001) / 1000.0f - 1.0f)));
  }
  Backend& backend_;
  std::vector<bf16_t> values_;
};

Tensor indices(Backend& backend, const std::vector<int32_t>& values) {
  Tensor out = backend.make(DType::kI32, {static_cast<int64_t>(values.size())});
  backend.upload(out, values.data());
  return out;
}

std::vector<int32_t> counting(int64_t count, int64_t step = 1) {
  std::vector<int32_t> out;
  for (int64_t i = 0; i < count; ++i) out.push_back(static_cast<int32_t>(i * step));
  return out;
}

// Seconds of one run() on the device: many enqueued, one wait. The best of three.
template <typename Run>
double seconds(Backend& backend, const Tensor& probe, Run&& run, double enough = 0.03) {
  std::vector<std::byte> bytes(probe.view.bytes());
  const auto timed = [&](int count) {
    const double begin = now();
    for (int i = 0; i < count; ++i) run();
    backend.download(probe, bytes.data());
    return (now() - begin) / count;
  };
  timed(3);
  const int count = static_cast<int>(std::clamp(enough / timed(3), 3.0, 2000.0));
  return std::min({timed(count), timed(count), timed(count)});
}

struct Context {
  Backend& backend;
  DeviceBandwidth bandwidth;
  Tensor probe;  // four bytes to wait for
};

void products(Context& c) {
  struct Shape {
    const char* what;
    int64_t in, out;
  };
  std::printf("\n## Linear layers, bf16\n\nGB/s: weights, rows and results once each. %% of read: of the bandwidth of reading alone.\n\n");
  std::printf("| layer | in | out | rows | us | GB/s | %% of read | TFLOP/s |\n|---|---|---|---|---|---|---|---|\n");
  Weights weights(c.backend);
  for (const Shape& s : {Shape{"square", 4096, 4096}, {"qkv", 5120, 7168}, {"attention out", 5120, 5120}, {"gate, up", 5120, 27648}, {"down", 13824, 5120},
                         {"flow head block", 1536, 1536}}) {
    std::vector<std::unique_ptr<Linear>> layers;
    const int64_t bytes = 2 * s.in * s.out;
    for (int64_t i = 0; i < std::max<int64_t>(1, (kColdBytes + bytes - 1) / bytes); ++i) layers.push_back(weights.linear(s.in, s.out));
    for (int64_t rows : {1, 4, 8, 16, 32, 64, 256, 1024}) {
      const Tensor x = c.backend.make(DType::kBF16, {rows, s.in}), y = c.backend.make(DType::kF32, {rows, s.out});
      size_t next = 0;
      const double time = seconds(c.backend, c.probe, [&] { c.backend.linear(x, *layers[next++ % layers.size()], y, Epilogue::store()); });
      const double moved = static_cast<double>(bytes + rows * (2 * s.in + 4 * s.out)), flops = 2.0 * static_cast<double>(rows * s.in * s.out);
      std::printf("| %s | %ld | %ld | %ld | %.1f | %.0f | %.0f | %.1f |\n", s.what, s.in, s.out, rows, time * 1e6, moved / time / 1e9,
                  100 * moved / time / c.bandwidth.read, flops / time / 1e12);
    }
  }
}

// Rows of one sequence each with `length` positions behind them.
struct Cached {
  Cached(Backend& backend, int64_t layers, int64_t rows, int64_t length) {
    const int64_t blocks_each = (length + kBlockTokens - 1) / kBlockTokens, blocks = rows * blocks_each;
    const Shape shape{blocks, kBackbone.num_kv_heads, kBlockTokens, kBackbone.head_dim};
    for (int64_t i = 0; i < layers; ++i) {
      storage.push_back(backend.make(backend.kv_dtype(), shape));
      storage.push_back(backend.make(backend.kv_dtype(), shape));
      kv.push_back({storage[storage.size() - 2], storage.back()});
    }
    // Blocks of a row are `rows` apart, as when pictures grow together.
    std::vector<int32_t> table, slot;
    for (int64_t m = 0; m < rows; ++m) {
      for (int64_t i = 0; i < blocks_each; ++i) table.push_back(static_cast<int32_t>(i * rows + m));
      slot.push_back(table.back() * static_cast<int32_t>(kBlockTokens) + static_cast<int32_t>((length - 1) % kBlockTokens));
    }
    tables = indices(backend, table);
    tables.view = tables.view.reshape({rows, blocks_each});
    table_rows = indices(backend, counting(rows));
    lengths = indices(backend, std::vector<int32_t>(static_cast<size_t>(rows), static_cast<int32_t>(length)));
    slots = indices(backend, slot);
    positions = indices(backend, std::vector<int32_t>(static_cast<size_t>(rows), static_cast<int32_t>(length - 1)));
  }
  PagedContext context() const { return {tables, table_rows, lengths}; }
  BackboneBatch batch() const { return {positions, slots, context()}; }

  std::vector<Tensor> storage;
  std::vector<KvLayer> kv;
  Tensor tables, table_rows, lengths, slots, positions;
};

double cache_bytes(int64_t rows, int64_t length) { return static_cast<double>(rows * length * kBackbone.num_kv_heads * kBackbone.head_dim * 2 * 2); }

void attention(Context& c) {
  std::printf("\n## Paged attention, one position a row, 40 heads on 8 of 128, bf16 cache\n\n| rows | context | us | GB/s | %% of read |\n|---|---|---|---|---|\n");
  for (int64_t rows : {1, 2, 8, 32}) {
    for (int64_t length : {128, 1024, 4096}) {
      const int64_t copies = std::max<int64_t>(1, kColdBytes / static_cast<int64_t>(cache_bytes(rows, length)));
      const Cached cached(c.backend, std::min<int64_t>(copies, 32), rows, length);
      const Tensor q = c.backend.make(DType::kF32, {rows, 5120}), out = c.backend.make(DType::kBF16, {rows, 5120});
      size_t next = 0;
      const double time = seconds(c.backend, c.probe, [&] { c.backend.paged_attention(q, cached.kv[next++ % cached.kv.size()], cached.context(), out); });
      std::printf("| %ld | %ld | %.1f | %.0f | %.0f |\n", rows, length, time * 1e6, cache_bytes(rows, length) / time / 1e9,
                  100 * cache_bytes(rows, length) / time / c.bandwidth.read);
    }
  }
}

BackboneWeights backbone_weights(Backend& backend) {
  Weights weights(backend);
  BackboneWeights out;
  const BackboneConfig& b = kBackbone;
  for (int64_t i = 0; i < b.num_layers; ++i) {
    out.layers.push_back({weights.vector(b.hidden_size), weights.linear(b.hidden_size, (b.num_heads + 2 * b.num_kv_heads) * b.head_dim),
                          weights.linear(b.num_heads * b.head_dim, b.hidden_size), weights.vector(b.hidden_size),
                          weights.linear(b.hidden_size, 2 * b.intermediate_size), weights.linear(b.intermediate_size, b.hidden_size)});
  }
  out.norm = weights.vector(b.hidden_size);
  return out;
}

void decode(Context& c) {
  std::printf("\n## Backbone of 14B, one step, context 1024 (%ld layers measured, %ld printed)\n\n", kBackbone.num_layers, kModelLayers);
  std::printf("Floor: weights and cache once at the bandwidth of reading. Rows: guidance makes two of each picture; 5 a row: verification of 4 drafts.\n\n");
  const double begin = now();
  const Backbone backbone(c.backend, kBackbone, backbone_weights(c.backend));
  std::vector<std::byte> bytes(c.probe.view.bytes());
  c.backend.download(c.probe, bytes.data());
  const double layer_weights = 2.0 * (5120.0 * 7168 + 5120.0 * 5120 + 5120.0 * 27648 + 13824.0 * 5120);
  std::printf("Weights went up and into their layout at %.2f GB/s.\n\n| rows | ms | floor ms | floor / time |\n|---|---|---|---|\n",
              layer_weights * static_cast<double>(kBackbone.num_layers) / (now() - begin) / 1e9);
  for (int64_t rows : {1, 2, 8, 10, 16, 32, 80, 160}) {
    const Cached cached(c.backend, kBackbone.num_layers, rows, 1024);
    Scratch scratch(c.backend);
    const Tensor x = c.backend.make(DType::kF32, {rows, 5120});
    const double time = seconds(c.backend, c.probe, [&] { backbone.forward(x, cached.batch(), cached.kv, scratch); });
    const double scale = static_cast<double>(kModelLayers) / static_cast<double>(kBackbone.num_layers);
    const double floor = static_cast<double>(kModelLayers) * (layer_weights + cache_bytes(rows, 1024)) / c.bandwidth.read;
    std::printf("| %ld | %.2f | %.2f | %.2f |\n", rows, time * scale * 1e3, floor * 1e3, floor / (time * scale));
  }
}

FlowHeadWeights head_weights(Backend& backend) {
  Weights weights(backend);
  FlowHeadWeights out;
  out.width = kHeadWidth;
  out.token_size = kTokenSize;
  out.time_in = weights.linear(256, kHeadWidth);
  out.time_out = weights.linear(kHeadWidth, kHeadWidth);
  out.condition = weights.linear(5120, kHeadWidth);
  out.input = weights.linear(kTokenSize, kHeadWidth);
  out.modulation = weights.linear(kHeadWidth, kHeadWidth * (3 * kHeadBlocks + 2));
  for (int64_t i = 0; i < kHeadBlocks; ++i) {
    out.blocks.push_back({weights.vector(kHeadWidth), weights.vector(kHeadWidth), weights.linear(kHeadWidth, kHeadWidth), weights.linear(kHeadWidth, kHeadWidth)});
  }
  out.output = weights.linear(kHeadWidth, kTokenSize);
  return out;
}

// One token of `pictures` pictures with guidance: modulations of all timesteps, then a velocity and a sampler step each.
void head(Context& c) {
  std::printf("\n## Flow head of 14B, one token (modulations, velocities, sampler steps)\n\n| pictures | timesteps | ms |\n|---|---|---|\n");
  Backend& b = c.backend;
  const FlowHead head(b, head_weights(b));
  for (int64_t pictures : {1, 4, 16}) {
    for (int64_t timesteps : {28, 2}) {
      const int64_t rows = 2 * pictures;
      Scratch scratch(b);
      const Tensor tau = b.make(DType::kF32, {timesteps, kHeadWidth}), condition = b.make(DType::kF32, {rows, kHeadWidth});
      const Tensor modulation = b.make(DType::kF32, {timesteps * rows, head.modulation_size()});
      const Tensor x = b.make(DType::kF32, {pictures, kTokenSize}), v = b.make(DType::kF32, {rows, kTokenSize});
      const Tensor coefficients = b.make(DType::kF32, {pictures, 5});
      std::vector<int32_t> times, conditions, x_rows;
      for (int64_t i = 0; i < timesteps * rows; ++i) {
        times.push_back(static_cast<int32_t>(i / rows));
        conditions.push_back(static_cast<int32_t>(i % rows));
      }
      for (int64_t i = 0; i < rows; ++i) x_rows.push_back(static_cast<int32_t>(i / 2));
      const Tensor time_index = indices(b, times), condition_index = indices(b, conditions), x_row = indices(b, x_rows);
      const Tensor begins = indices(b, counting(pictures + 1, 2)), own = indices(b, counting(pictures));
      const double time = seconds(b, c.probe, [&] {
        head.modulate(tau, time_index, condition, condition_index, modulation, scratch);
        for (int64_t n = 0; n < timesteps; ++n) {
          head.velocity(x, x_row, modulation.view.row_slice(n * rows, (n + 1) * rows), v, scratch);
          b.flow_step(x, v, begins, own, coefficients, {}, own);
        }
      });
      std::printf("| %ld | %ld | %.3f |\n", pictures, timesteps, time * 1e3);
    }
  }
}

void run(const std::set<std::string>& parts) {
  const auto backend = make_backend({"cuda", "bfloat16", 0});
  Context context{*backend, device_bandwidth(), backend->make(DType::kI32, {1})};
  std::printf("# cuda_bench: %s, %s\n\n", backend->info().isa.c_str(), backend->info().libraries.c_str());
  std::printf("Copy of 1 GiB: %.0f GB/s (read and written). Reading 1 GiB: %.0f GB/s.\n", context.bandwidth.copy / 1e9, context.bandwidth.read / 1e9);
  const auto wanted = [&](const char* part) { return parts.empty() || parts.contains(part); };
  if (wanted("products")) products(context);
  if (wanted("attention")) attention(context);
  if (wanted("decode")) decode(context);
  if (wanted("head")) head(context);
}

}  // namespace
}  // namespace ardiff::bench

int main(int argc, char** argv) {
  try {
    std::setvbuf(stdout, nullptr, _IOLBF, 1 << 16);
    ardiff::bench::run({argv + 1, argv + argc});
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "cuda_bench: %s\n", error.what());
    return 1;
  }
}
