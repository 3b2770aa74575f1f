// The cuda backend beside the device: linear layers of NextStep-1 14B and of 4096 x 4096 against measured memory bandwidth, paged
// attention, the backbone's step, the flow head and TransDiff's pictures at true sizes with made-up weights; op by op and as graphs.
// Prints markdown.
//
//   cuda_bench [products|together|attention|decode|head|classes ...]      default: everything
#include <set>
#include <string>

#include "cuda_bench.h"

namespace ardiff::bench {
namespace {

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

void run(const std::set<std::string>& parts) {
  const auto backend = make_backend({.name = "cuda", .dtype = "bfloat16", .graphs = false});
  const auto graphs = make_backend({.name = "cuda", .dtype = "bfloat16", .graphs = true});
  Context context{*backend, *graphs, device_bandwidth(), backend->make(DType::kI32, {1}), graphs->make(DType::kI32, {1})};
  std::printf("# cuda_bench: %s, %s\n\n", backend->info().isa.c_str(), backend->info().libraries.c_str());
  std::printf("Copy of 1 GiB: %.0f GB/s (read and written). Reading 1 GiB: %.0f GB/s.\n", context.bandwidth.copy / 1e9, context.bandwidth.read / 1e9);
  const auto wanted = [&](const char* part) { return parts.empty() || parts.contains(part); };
  if (wanted("products")) products(context);
  if (wanted("together")) together(context);
  if (wanted("attention")) attention(context);
  if (wanted("decode")) decode(context);
  if (wanted("head")) head(context);
  if (wanted("classes")) classes(context);
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
