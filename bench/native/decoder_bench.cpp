// One call of a TransDiff diffusion decoder, through the model's own code on random weights, and what each kind of op takes of it.
//
//   decoder_bench [threads] [seconds] [width] [heads] [blocks] [grid]      default: TransDiff-L at 256 pixels, two guidance rows
//
// ms: best and median of all calls. Shares: of the ops' time in the best tenth of calls.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <random>

#include "model/diffusion_decoder.h"
#include "op_costs.h"

namespace ardiff::bench {
namespace {

class Weights {
 public:
  Weights(Backend& backend, const TransDiffConfig& config) : backend_(backend), config_(config) {}

  DiffusionDecoderWeights make() {
    const int64_t d = config_.width;
    DiffusionDecoderWeights out;
    out.positions = tensor({config_.latent_tokens(), d}, 0.02f);
    out.input = linear(config_.latent_channels, d);
    for (int64_t i = 0; i < config_.diffusion_blocks; ++i) {
      DiffusionBlockWeights block;
      block.self_norm = norm(), block.cross_norm = norm(), block.mlp_norm = norm();
      block.qkv = linear(d, 3 * d), block.self_out = linear(d, d);
      block.cross_q = linear(d, d), block.cross_kv = linear(d, 2 * d), block.cross_out = linear(d, d);
      block.mlp = {linear(d, 4 * d), linear(4 * d, d)};
      out.blocks.push_back(std::move(block));
    }
    out.output = linear(d, config_.latent_channels);
    return out;
  }

  Tensor tensor(Shape shape, float scale) {
    const Tensor out = backend_.make(DType::kF32, shape);
    backend_.upload(out, normal(shape.size(), scale).data());
    return out;
  }

 private:
  std::vector<float> normal(int64_t count, float scale) {
    std::normal_distribution<float> distribution(0.0f, scale);
    std::vector<float> out(static_cast<size_t>(count));
    for (float& value : out) value = distribution(engine_);
    return out;
  }

  LayerNormWeights norm() { return {tensor({config_.width}, 1.0f), tensor({config_.width}, 0.1f)}; }

  std::unique_ptr<Linear> linear(int64_t in, int64_t out) {
    const auto weight = normal(in * out, 1.0f / std::sqrt(static_cast<float>(in))), bias = normal(out, 0.1f);
    const LinearPart part{{weight.data(), DType::kF32, {out, in}, {}}, {bias.data(), DType::kF32, {out}, {}}};
    return backend_.prepare_linear({&part, 1});
  }

  Backend& backend_;
  const TransDiffConfig& config_;
  std::mt19937 engine_{1};
};

void run(int threads, double seconds, int64_t width, int64_t heads, int64_t blocks, int64_t grid) {
  TransDiffConfig config{};
  config.width = width;
  config.num_heads = heads;
  config.diffusion_blocks = blocks;
  config.latent_channels = 16;
  config.grid = grid;
  config.num_passes = 1;
  config.pass_tokens = grid * grid;
  const auto real = make_backend({"cpu", "auto", threads});
  TimedBackend backend(*real);
  Weights weights(backend, config);
  const DiffusionDecoder decoder(backend, config, weights.make());
  Scratch scratch(backend);

  // Both guidance rows attend to all condition tokens, each its own.
  constexpr int64_t kRows = 2, kBlockTokens = 64;
  const int64_t blocks_of_row = (config.pass_tokens + kBlockTokens - 1) / kBlockTokens;
  const Shape cache{kRows * blocks_of_row, heads, kBlockTokens, config.head_dim()};
  std::vector<Tensor> keys, values;
  std::vector<KvLayer> kv;
  std::vector<int32_t> tables, slots;
  for (int64_t i = 0; i < kRows * blocks_of_row; ++i) tables.push_back(static_cast<int32_t>(i));
  for (int64_t row = 0; row < kRows; ++row) {
    for (int64_t i = 0; i < config.pass_tokens; ++i) slots.push_back(static_cast<int32_t>(row * blocks_of_row * kBlockTokens + i));
  }
  for (int64_t i = 0; i < blocks; ++i) {
    keys.push_back(backend.make(backend.kv_dtype(), cache));
    values.push_back(backend.make(backend.kv_dtype(), cache));
    kv.push_back({keys.back(), values.back()});
  }
  const Scratch::Frame frame(scratch);
  const Tensor key_values = weights.tensor({kRows * config.pass_tokens, 2 * width}, 1.0f);
  for (const KvLayer& layer : kv) backend.store_kv(key_values, scratch.index(slots), layer);
  std::vector<ConditionRow> conditions;
  for (int64_t row = 0; row < kRows; ++row) {
    conditions.push_back({std::span(tables).subspan(static_cast<size_t>(row * blocks_of_row), static_cast<size_t>(blocks_of_row)), config.pass_tokens});
  }
  const DiffusionDecoder::Batch batch = decoder.prepare(std::vector<int32_t>{0, 0}, conditions, scratch);
  const Tensor x = weights.tensor({1, config.latent_size()}, 1.0f), modulation = weights.tensor({1, decoder.modulation_size()}, 0.5f);
  const Tensor v = backend.make(DType::kF32, {kRows, config.latent_size()});
  const std::vector<int32_t> times{0, 0};

  const Cost cost = cost_of(backend, seconds, [&] { decoder.velocity(x, batch, modulation, times, kv, v, scratch); });
  const BackendInfo& info = real->info();
  const auto tokens = static_cast<double>(kRows * config.latent_tokens());
  const double products = 2.0 * tokens * static_cast<double>(blocks * 14 * width * width);
  std::printf("%s, %s, %d threads; %ld wide, %ld heads, %ld blocks, %.0f tokens\n", info.isa.c_str(), dtype_name(info.dtype), info.threads, width, heads, blocks, tokens);
  std::printf("call: %.1f ms, median %.1f ms; %.0f GFLOP/s of products\n", cost.time.best * 1e3, cost.time.median * 1e3, products / cost.time.best / 1e9);
  print_shares(cost);
}

}  // namespace
}  // namespace ardiff::bench

int main(int argc, char** argv) {
  const auto number = [&](int at, long otherwise) { return argc > at ? std::atol(argv[at]) : otherwise; };
  try {
    ardiff::bench::run(static_cast<int>(number(1, 0)), argc > 2 ? std::atof(argv[2]) : 10.0, number(3, 1024), number(4, 16), number(5, 16), number(6, 16));
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
  return 0;
}
