// What the parts of a picture cost by number of rows, through the model's own code and weights: a pass of the backbone,
// a call of the flow head, a decode of the autoencoder. Cost by rows is what decides how many tokens to draft.
//
//   pass_bench MODEL [threads] [seconds of each figure] [backbone|head|decode]
//
// us: best and median of all runs. Shares: of the ops' time in the best tenth of runs. "waiting": what two threads or
// more lose against a perfect split of one thread's best time.
#include <cstdio>
#include <cstdlib>
#include <random>

#include "model/backbone.h"
#include "model/flow_head.h"
#include "model/vae.h"
#include "op_costs.h"

namespace ardiff::bench {
namespace {

void print(const char* what, int64_t rows, const Cost& cost, const Cost& alone, int threads, double operations) {
  std::printf("%-10s %4ld | %8.1f %8.1f | %8.1f | %6.0f | %4.0f%% |", what, rows, cost.time.best * 1e6, cost.time.median * 1e6, alone.time.best * 1e6,
              operations / cost.time.best / 1e9, 100 * (1 - alone.time.best / threads / cost.time.best));
  print_shares(cost);
}

Tensor random_rows(Backend& backend, int64_t rows, int64_t cols) {
  std::mt19937 engine(1);
  std::normal_distribution<float> normal;
  std::vector<float> values(static_cast<size_t>(rows * cols));
  for (float& value : values) value = normal(engine);
  const Tensor out = backend.make(DType::kF32, {rows, cols});
  backend.upload(out, values.data());
  return out;
}

Tensor indices(Backend& backend, const std::vector<int32_t>& values) {
  const Tensor out = backend.make(DType::kI32, {static_cast<int64_t>(values.size())});
  backend.upload(out, values.data());
  return out;
}

// The model's parts on one backend.
class Parts {
 public:
  Parts(const std::filesystem::path& directory, int threads, double seconds)
      : threads_(threads), seconds_(seconds), real_(make_backend({"cpu", "auto", threads})), backend_(*real_), config_(read_nextstep_config(directory)),
        scratch_(backend_) {
    const Checkpoint checkpoint(directory, "model"), vae_checkpoint(config_.vae_directory, "model");
    backbone_ = std::make_unique<Backbone>(backend_, config_.backbone, load_backbone(backend_, checkpoint, config_));
    head_ = std::make_unique<FlowHead>(backend_, load_flow_head(backend_, checkpoint, config_));
    vae_ = std::make_unique<Vae>(backend_, vae_checkpoint, read_vae_config(config_.vae_directory));
    const Shape cache{kMaxBlocks, config_.backbone.num_kv_heads, kBlockTokens, config_.backbone.head_dim};
    for (int64_t i = 0; i < config_.backbone.num_layers; ++i) {
      keys_.push_back(backend_.make(backend_.kv_dtype(), cache));
      values_.push_back(backend_.make(backend_.kv_dtype(), cache));
      kv_.push_back({keys_.back(), values_.back()});
    }
  }

  const BackendInfo& info() const { return real_->info(); }
  const NextStepConfig& config() const { return config_; }

  // `rows` rows at the positions up to the end of a context of 64 positions, all of one sequence: a verification.
  Cost pass(int64_t rows) {
    constexpr int64_t kContext = 64;
    std::vector<int32_t> positions, slots, tables, table_rows, lengths;
    for (int64_t i = 0; i < kMaxBlocks; ++i) tables.push_back(static_cast<int32_t>(i));
    for (int64_t m = 0; m < rows; ++m) {
      const auto position = static_cast<int32_t>(kContext - rows + m);
      positions.push_back(position);
      slots.push_back(position);
      table_rows.push_back(0);
      lengths.push_back(position + 1);
    }
    const Tensor position = indices(backend_, positions), slot = indices(backend_, slots), row = indices(backend_, table_rows), length = indices(backend_, lengths);
    const Tensor table = indices(backend_, tables);
    const BackboneBatch batch{position, slot, {table.view.reshape({1, kMaxBlocks}), row, length}};
    const Tensor x = random_rows(backend_, rows, config_.backbone.hidden_size), start = random_rows(backend_, rows, config_.backbone.hidden_size);
    return cost_of(backend_, seconds_, [&] {
      real_->convert(start, x);
      backbone_->forward(x, batch, kv_, scratch_);
      backbone_->final_norm(x, x);
    });
  }

  double pass_operations(int64_t rows) const {
    const BackboneConfig& c = config_.backbone;
    const int64_t q = c.num_heads * c.head_dim, kv = c.num_kv_heads * c.head_dim;
    return 2.0 * static_cast<double>(rows * c.num_layers * (c.hidden_size * (2 * q + 2 * kv) + 3 * c.hidden_size * c.intermediate_size));
  }

  // One timestep of `rows` tokens with one guidance row each, modulation included.
  Cost head(int64_t rows) {
    const int64_t width = head_->width(), token = config_.image.token_size();
    const Tensor x = random_rows(backend_, rows, token), v = backend_.make(DType::kF32, {rows, token}), tau = random_rows(backend_, 1, width);
    const Tensor c = random_rows(backend_, rows, config_.backbone.hidden_size), condition = backend_.make(DType::kF32, {rows, width});
    const Tensor modulation = backend_.make(DType::kF32, {rows, head_->modulation_size()});
    std::vector<int32_t> own(static_cast<size_t>(rows));
    for (size_t i = 0; i < own.size(); ++i) own[i] = static_cast<int32_t>(i);
    const Tensor index = indices(backend_, own), first = indices(backend_, std::vector<int32_t>(own.size(), 0));
    return cost_of(backend_, seconds_, [&] {
      head_->embed_condition(c, condition);
      head_->modulate(tau, first, condition, index, modulation, scratch_);
      head_->velocity(x, index, modulation, v, scratch_);
    });
  }

  double head_operations(int64_t rows) const {
    const int64_t width = head_->width();
    return 2.0 * static_cast<double>(rows * width * (config_.backbone.hidden_size + head_->modulation_size() + 2 * config_.head.num_blocks * width + 2 * config_.image.token_size()));
  }

  Cost decode() {
    constexpr int64_t kSide = 16;
    const Tensor z = random_rows(backend_, kSide * kSide, vae_->config().latent_channels);
    const int64_t side = kSide * vae_->config().factor();
    const Tensor pixels = backend_.make(DType::kF32, {1, side, side, vae_->config().out_channels}), rgb = backend_.make(DType::kU8, {1, side, side, vae_->config().out_channels});
    return cost_of(backend_, seconds_ * 2, [&] {
      vae_->decode(z.view.reshape({1, kSide, kSide, vae_->config().latent_channels}), pixels, scratch_);
      backend_.to_rgb8(pixels, rgb);
    });
  }

  static constexpr int64_t kMaxBlocks = 8, kBlockTokens = 16;

 private:
  const int threads_;
  const double seconds_;
  std::unique_ptr<Backend> real_;
  TimedBackend backend_;
  NextStepConfig config_;
  Scratch scratch_;
  std::unique_ptr<Backbone> backbone_;
  std::unique_ptr<FlowHead> head_;
  std::unique_ptr<Vae> vae_;
  std::vector<Tensor> keys_, values_;
  std::vector<KvLayer> kv_;
};

void run(const std::filesystem::path& directory, int threads, double seconds, const std::string& only) {
  Parts all(directory, threads, seconds);
  threads = all.info().threads;
  Parts alone(directory, 1, seconds / 2);
  std::printf("%s, %s, %s, %d threads\n", all.info().isa.c_str(), dtype_name(all.info().dtype), all.info().libraries.c_str(), threads);
  std::printf("%-10s %4s | %8s %8s | %8s | %6s | %5s | shares\n", "part", "rows", "best us", "median", "1 thread", "GFLOP/s", "wait");
  const auto asked = [&](const char* part) { return only.empty() || only == part; };
  if (asked("backbone")) {
    for (int64_t rows : {1, 2, 4, 5, 6, 8, 12, 16, 24, 32}) print("backbone", rows, all.pass(rows), alone.pass(rows), threads, all.pass_operations(rows));
  }
  if (asked("head")) {
    for (int64_t rows : {1, 2, 4, 8, 16}) print("flow head", rows, all.head(rows), alone.head(rows), threads, all.head_operations(rows));
  }
  if (asked("decode")) print("decode", 1, all.decode(), alone.decode(), threads, 0);
}

}  // namespace
}  // namespace ardiff::bench

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: pass_bench MODEL [threads] [seconds of each figure] [backbone|head|decode]\n");
    return 2;
  }
  try {
    ardiff::bench::run(argv[1], argc > 2 ? std::atoi(argv[2]) : 0, argc > 3 ? std::atof(argv[3]) : 0.5, argc > 4 ? argv[4] : "");
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
  return 0;
}
