// The cuda backend beside the device: linear layers of NextStep-1 14B and of 4096 x 4096 against measured memory bandwidth, paged
// attention, the backbone's step, the flow head and TransDiff's pictures at true sizes with made-up weights; op by op and as graphs.
// Prints markdown.
//
//   cuda_bench [products|together|pictures|attention|decode|head|classes|shares ...]      default: everything but shares
//
// TransDiff is with cuBLASLt where that is found, unless ARDIFF_CUDA_BLASLT=0 (docs/cuda.md). The products of whole pictures are timed with
// and without it in any case.
#include <cstdlib>
#include <set>
#include <string>

#include "base/error.h"
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
    for (int64_t rows : {1, 4, 8, 16, 32, 64, 80, 160, 256, 1024}) {
      const Tensor x = c.backend.make(DType::kBF16, {rows, s.in}), y = c.backend.make(DType::kF32, {rows, s.out});
      size_t next = 0;
      const double time = seconds(c.backend, c.probe, [&] { c.backend.linear(x, *layers[next++ % layers.size()], y, Epilogue::store()); });
      const double moved = static_cast<double>(bytes + rows * (2 * s.in + 4 * s.out)), flops = 2.0 * static_cast<double>(rows * s.in * s.out);
      std::printf("| %s | %ld | %ld | %ld | %.1f | %.0f | %.0f | %.1f |\n", s.what, s.in, s.out, rows, time * 1e6, moved / time / 1e9,
                  100 * moved / time / c.bandwidth.read, flops / time / 1e12);
    }
  }
}

// Layers of whole pictures, by our kernels and by cuBLASLt, in turns.
void pictures(Context& c) {
  struct Layer {
    const char* what;
    int64_t in, out;
    Epilogue epilogue;
    DType result;
  };
  const Epilogue store = Epilogue::store(), gelu = Epilogue::gelu(), add = Epilogue::add();
  std::printf("\n## Layers of whole pictures, bf16\n\ncuBLASLt: %s. A picture of TransDiff with guidance has 512 rows in a call of the decoder.\n\n",
              c.cublas_lt != nullptr ? c.cublas_lt->info().libraries.c_str() : c.without.c_str());
  std::printf("| layer | in | out | rows | us | TFLOP/s | cuBLASLt: us | TFLOP/s |\n|---|---|---|---|---|---|---|---|\n");
  std::set<std::string> without;  // why shapes have no algorithm of the library's
  for (const Layer& l : {Layer{"L qkv", 1024, 3072, store, DType::kF32}, {"L fc1, gelu", 1024, 4096, gelu, DType::kBF16}, {"L fc2, add", 4096, 1024, add, DType::kF32},
                         {"L out, add", 1024, 1024, add, DType::kF32}, {"H qkv", 1280, 3840, store, DType::kF32}, {"H fc1, gelu", 1280, 5120, gelu, DType::kBF16},
                         {"H fc2, add", 5120, 1280, add, DType::kF32}, {"autoencoder attention", 512, 512, store, DType::kF32}}) {
    for (const int64_t rows : {512, 2048, 8192}) {
      const double flops = 2.0 * static_cast<double>(rows * l.in * l.out);
      std::printf("| %s | %ld | %ld | %ld |", l.what, l.in, l.out, rows);
      for (Backend* backend : {&c.backend, c.cublas_lt}) {
        if (backend == nullptr) {
          std::printf(" | |");
          continue;
        }
        Weights weights(*backend);
        std::unique_ptr<Linear> w;
        try {
          w = backend == &c.backend ? weights.linear(l.in, l.out) : weights.picture_linear(l.in, l.out);
        } catch (const Error& error) {
          if (backend == &c.backend || error.code() != ErrorCode::kInvalidArgument) throw;
          std::printf(" none | |");
          without.insert(error.what());
          continue;
        }
        const Tensor x = backend->make(DType::kBF16, {rows, l.in}), y = backend->make(l.result, {rows, l.out}), probe = backend->make(DType::kI32, {1});
        const double time = seconds(*backend, probe, [&] { backend->linear(x, *w, y, l.epilogue); });
        std::printf(" %.1f | %.0f |", time * 1e6, flops / time / 1e12);
      }
      std::printf("\n");
    }
  }
  for (const std::string& why : without) std::printf("\n%s\n", why.c_str());
}

// Only where it is asked for: where a step's time goes, not how long it is, as every op is waited for.
void shares(Context& c) {
  std::printf("\n## By kind of op, each waited for\n\n");
  decode_shares(c);
  class_shares(c);
}

// Each part whatever became of those before it. False: one failed.
bool run(const std::set<std::string>& parts) {
  const auto backend = make_backend({.name = "cuda", .dtype = "bfloat16", .graphs = false});
  const auto graphs = make_backend({.name = "cuda", .dtype = "bfloat16", .graphs = true});
  Context context{*backend, *graphs, device_bandwidth(), backend->make(DType::kI32, {1}), graphs->make(DType::kI32, {1}), nullptr, {}};
  std::unique_ptr<Backend> cublas_lt;
  try {
    const char* const asked = std::getenv("ARDIFF_CUDA_BLASLT");
    const bool named = asked != nullptr && *asked == '/';
    cublas_lt = make_backend({.name = "cuda", .dtype = "bfloat16", .graphs = false, .cublas_lt = named ? asked : "1"});
  } catch (const Error& error) {
    context.without = error.what();
  }
  context.cublas_lt = cublas_lt.get();
  std::printf("# cuda_bench: %s, %s\n\n", backend->info().isa.c_str(), backend->info().libraries.c_str());
  std::printf("Copy of 1 GiB: %.0f GB/s (read and written). Reading 1 GiB: %.0f GB/s.\n", context.bandwidth.copy / 1e9, context.bandwidth.read / 1e9);
  struct Part {
    const char* name;
    void (*run)(Context&);
  };
  bool passed = true;
  for (const Part& part : {Part{"products", products}, {"together", together}, {"pictures", pictures}, {"attention", attention}, {"decode", decode}, {"head", head},
                           {"classes", classes}, {"shares", shares}}) {
    if (parts.empty() ? part.run == shares : !parts.contains(part.name)) continue;
    try {
      part.run(context);
    } catch (const std::exception& error) {
      std::printf("\n%s: %s\n", part.name, error.what());
      passed = false;
    }
  }
  return passed;
}

}  // namespace
}  // namespace ardiff::bench

int main(int argc, char** argv) {
  try {
    std::setvbuf(stdout, nullptr, _IOLBF, 1 << 16);
    return ardiff::bench::run({argv + 1, argv + argc}) ? 0 : 1;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "cuda_bench: %s\n", error.what());
    return 1;
  }
}
