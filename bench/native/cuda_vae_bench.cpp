// The autoencoder's decoder on the cuda backend, a 512 x 512 picture by operation: base width 128, levels of 1, 2, 4 and 4 times
// that, two residual blocks a level and one more, as in every released model of the family; made-up weights. Prints markdown.
//
//   cuda_vae_bench [bfloat16|float32] [side of the picture]      default: bfloat16 512
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "timing.h"

namespace ardiff::bench {
namespace {

struct Operation {
  enum class Kind { kConv, kUpsample, kNorm, kLinear, kAttention };
  Kind kind;
  int64_t side, in, out, kernel;  // side of the input
  int count;

  bool same(const Operation& o) const { return kind == o.kind && side == o.side && in == o.in && out == o.out && kernel == o.kernel; }
  int64_t out_side() const { return kind == Kind::kUpsample ? 2 * side : side; }
  double flops() const {
    const auto pixels = static_cast<double>(out_side() * out_side());
    switch (kind) {
      case Kind::kNorm: return 0;
      case Kind::kAttention: return 4 * pixels * pixels * static_cast<double>(in);
      default: return 2 * pixels * static_cast<double>(in * out * kernel * kernel);
    }
  }
  // Input once in the products' dtype (f32 for norms and upsampling), result once in f32 (half of it for norms).
  double bytes(double element) const {
    const auto from = static_cast<double>(side * side * in), to = static_cast<double>(out_side() * out_side() * out);
    return kind == Kind::kNorm ? 4 * from + element * to : (kind == Kind::kUpsample ? 4 : element) * from + 4 * to;
  }
  std::string name() const {
    const char* const names[] = {"convolution", "upsampling convolution", "group norm, silu", "linear over pixels", "attention over pixels"};
    std::string text = names[static_cast<size_t>(kind)];
    if (kind == Kind::kConv) text += kernel == 3 ? " 3x3" : " 1x1";
    return text;
  }
};

class Decoder {
 public:
  explicit Decoder(int64_t latent_side) {
    using Kind = Operation::Kind;
    constexpr int64_t kBase = 128, kLatentChannels = 16, kMultipliers[] = {4, 4, 2, 1};
    int64_t side = latent_side, channels = kBase * kMultipliers[0];
    add(Kind::kConv, side, kLatentChannels, channels, 3);
    residual(side, channels, channels);
    add(Kind::kNorm, side, channels, channels, 1);
    for (int i = 0; i < 4; ++i) add(Kind::kLinear, side, channels, channels, 1);
    add(Kind::kAttention, side, channels, channels, 1);
    residual(side, channels, channels);
    for (int level = 0; level < 4; ++level) {
      const int64_t width = kBase * kMultipliers[level];
      for (int block = 0; block < 3; ++block) {
        residual(side, channels, width);
        channels = width;
      }
      if (level == 3) break;
      add(Kind::kUpsample, side, channels, channels, 3);
      side *= 2;
    }
    add(Kind::kNorm, side, channels, channels, 1);
    add(Kind::kConv, side, channels, 3, 3);
  }
  const std::vector<Operation>& operations() const { return operations_; }

 private:
  void residual(int64_t side, int64_t in, int64_t out) {
    using Kind = Operation::Kind;
    if (in != out) add(Kind::kConv, side, in, out, 1);
    add(Kind::kNorm, side, in, in, 1);
    add(Kind::kConv, side, in, out, 3);
    add(Kind::kNorm, side, out, out, 1);
    add(Kind::kConv, side, out, out, 3);
  }
  void add(Operation::Kind kind, int64_t side, int64_t in, int64_t out, int64_t kernel) {
    const Operation next{kind, side, in, out, kernel, 1};
    for (Operation& known : operations_) {
      if (known.same(next)) {
        ++known.count;
        return;
      }
    }
    operations_.push_back(next);
  }
  std::vector<Operation> operations_;
};

class Runner {
 public:
  explicit Runner(Backend& backend) : backend_(backend), probe_(backend.make(DType::kI32, {1})) {}

  // Seconds of one: many enqueued, one wait; the best of three.
  double seconds(const Operation& o) {
    const Shape from{1, o.side, o.side, o.in}, to{1, o.out_side(), o.out_side(), o.out};
    const DType act = backend_.activation_dtype();
    const int64_t pixels = o.side * o.side;
    switch (o.kind) {
      case Operation::Kind::kConv: {
        const auto w = conv(o);
        const Tensor x = random(act, from), y = backend_.make(DType::kF32, to);
        return time([&] { backend_.conv2d(x, *w, y, Epilogue::store()); });
      }
      case Operation::Kind::kUpsample: {
        const auto w = conv(o);
        const Tensor x = random(DType::kF32, from), y = backend_.make(DType::kF32, to);
        return time([&] { backend_.upsample_conv2d(x, *w, y); });
      }
      case Operation::Kind::kNorm: {
        const Tensor x = random(DType::kF32, from), w = random(DType::kF32, {o.in}), y = backend_.make(act, to);
        return time([&] { backend_.group_norm(x, w, w, 32, 1e-6f, /*silu=*/true, y); });
      }
      case Operation::Kind::kLinear: {
        const std::vector<float> weight = values(o.in * o.out);
        const LinearPart part{{weight.data(), DType::kF32, {o.out, o.in}, "bench"}, {}};
        const auto w = backend_.prepare_linear({&part, 1});
        const Tensor x = random(act, {pixels, o.in}), y = backend_.make(DType::kF32, {pixels, o.out});
        return time([&] { backend_.linear(x, *w, y, Epilogue::store()); });
      }
      case Operation::Kind::kAttention: {
        const Tensor q = random(DType::kF32, {pixels, o.in}), out = backend_.make(act, {pixels, o.in});
        return time([&] { backend_.dense_attention(q, q, q, 1.0f / std::sqrt(static_cast<float>(o.in)), out); });
      }
    }
    return 0;
  }

 private:
  std::vector<float> values(int64_t count) {
    std::vector<float> out(static_cast<size_t>(count));
    for (float& value : out) value = static_cast<float>(random_() % 2001) / 1000.0f - 1.0f;
    return out;
  }
  Tensor random(DType dtype, const Shape& shape) {
    const Tensor plain = backend_.make(DType::kF32, shape);
    backend_.upload(plain, values(shape.size()).data());
    if (dtype == DType::kF32) return plain;
    const Tensor out = backend_.make(dtype, shape);
    backend_.convert(plain, out);
    return out;
  }
  std::unique_ptr<Conv2d> conv(const Operation& o) {
    const std::vector<float> weight = values(o.out * o.in * o.kernel * o.kernel), bias = values(o.out);
    return backend_.prepare_conv2d({weight.data(), DType::kF32, {o.out, o.in, o.kernel, o.kernel}, "bench"}, {bias.data(), DType::kF32, {o.out}, "bench"},
                                   ConvPadding::kSame);
  }
  template <typename Run>
  double time(Run&& run) {
    std::vector<std::byte> bytes(probe_.view.bytes());
    const auto timed = [&](int count) {
      const double begin = now();
      for (int i = 0; i < count; ++i) run();
      backend_.download(probe_, bytes.data());
      return (now() - begin) / count;
    };
    timed(2);
    const int count = static_cast<int>(std::clamp(0.02 / timed(2), 3.0, 500.0));
    return std::min({timed(count), timed(count), timed(count)});
  }

  Backend& backend_;
  Tensor probe_;  // four bytes to wait for
  std::minstd_rand random_{1};
};

void run(const std::string& dtype, int64_t side) {
  const auto backend = make_backend({"cuda", dtype, 0});
  const double element = static_cast<double>(dtype_size(backend->activation_dtype()));
  std::printf("# cuda_vae_bench: %ldx%ld in %s, %s, %s\n\n", side, side, dtype.c_str(), backend->info().isa.c_str(), backend->info().libraries.c_str());
  std::printf("| operation | side | in | out | times | us each | TFLOP/s | GB/s |\n|---|---|---|---|---|---|---|---|\n");
  Runner runner(*backend);
  double total = 0, flops = 0;
  const Decoder decoder(side / 8);
  for (const Operation& o : decoder.operations()) {
    const double seconds = runner.seconds(o);
    total += o.count * seconds;
    flops += o.count * o.flops();
    std::printf("| %s | %ld | %ld | %ld | %d | %.1f | %.1f | %.0f |\n", o.name().c_str(), o.side, o.in, o.out, o.count, seconds * 1e6, o.flops() / seconds / 1e12,
                o.bytes(element) / seconds / 1e9);
  }
  std::printf("\nAll of a decode: %.2f ms, %.2f TFLOP, %.0f TFLOP/s.\n", total * 1e3, flops / 1e12, flops / total / 1e12);
}

}  // namespace
}  // namespace ardiff::bench

int main(int argc, char** argv) {
  try {
    ardiff::bench::run(argc > 1 ? argv[1] : "bfloat16", argc > 2 ? std::atoll(argv[2]) : 512);
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "cuda_vae_bench: %s\n", error.what());
    return 1;
  }
}
