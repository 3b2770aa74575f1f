// TransDiff at true sizes with made-up weights, pictures of 256 x 256: a call of the diffusion decoder, and the sampling of a whole
// picture with guidance: in each pass the transformer and the decoder's keys and values of the condition, then its timesteps.
#include <functional>
#include <memory>

#include "cuda_bench.h"
#include "model/class_transformer.h"
#include "model/diffusion_decoder.h"

namespace ardiff::bench {
namespace {

constexpr int64_t kPassTimesteps = 100;

// With references: four passes of 64 condition tokens, latents of 16 x 16 x 16.
TransDiffConfig model(int64_t width, int64_t heads, int64_t transformer_blocks, int64_t diffusion_blocks) {
  return {true, width, heads, transformer_blocks, diffusion_blocks, 1000, 64, 16, 16, 4, 64, true, {}};
}

// Of both networks: time modulations are given, so their layers are not.
class Model {
 public:
  Model(Backend& backend, const TransDiffConfig& config)
      : config_(config), weights_(backend), transformer_(backend, config, transformer(backend)), decoder_(backend, config, decoder(backend)) {}

  const TransDiffConfig& config() const { return config_; }
  const ClassTransformer& transformer() const { return transformer_; }
  const DiffusionDecoder& decoder() const { return decoder_; }

 private:
  LayerNormWeights norm() { return {weights_.vector(config_.width), weights_.vector(config_.width)}; }
  std::unique_ptr<Linear> square(int64_t times = 1) { return weights_.picture_linear(config_.width, times * config_.width); }
  MlpWeights mlp() { return {square(4), weights_.picture_linear(4 * config_.width, config_.width)}; }

  ClassTransformerWeights transformer(Backend& backend) {
    ClassTransformerWeights out;
    const int64_t d = config_.width;
    out.num_masks = config_.pass_tokens;
    out.contents = backend.make(DType::kF32, {config_.num_classes + 1 + out.num_masks, d});
    out.positions = backend.make(DType::kF32, {config_.positions(), d});
    out.reference_in = weights_.linear(4 * config_.latent_channels, d);
    out.input_norm = norm(), out.output_norm = norm();
    for (int64_t i = 0; i < config_.transformer_blocks; ++i) {
      TransformerBlockWeights block;
      block.attention_norm = norm(), block.mlp_norm = norm();
      block.qkv = square(3), block.out = square(), block.mlp = mlp();
      out.blocks.push_back(std::move(block));
    }
    out.output_positions = backend.make(DType::kF32, {config_.condition_tokens(), d});
    return out;
  }
  DiffusionDecoderWeights decoder(Backend& backend) {
    DiffusionDecoderWeights out;
    const int64_t d = config_.width;
    out.positions = backend.make(DType::kF32, {config_.latent_tokens(), d});
    out.condition = square();
    out.input = weights_.linear(config_.latent_channels, d);
    for (int64_t i = 0; i < config_.diffusion_blocks; ++i) {
      DiffusionBlockWeights block;
      block.self_norm = norm(), block.cross_norm = norm(), block.mlp_norm = norm();
      block.qkv = square(3), block.self_out = square(), block.cross_q = square(), block.cross_kv = square(2), block.cross_out = square(), block.mlp = mlp();
      out.blocks.push_back(std::move(block));
    }
    out.output = weights_.linear(d, config_.latent_channels);
    return out;
  }

  TransDiffConfig config_;
  Weights weights_;
  ClassTransformer transformer_;
  DiffusionDecoder decoder_;
};

// `pictures` pictures with guidance, all in the same pass: a row with the class, one without.
class Pictures {
 public:
  Pictures(Backend& backend, const Model& model, int64_t pictures)
      : b_(backend), m_(model), c_(model.config()), pictures_(pictures), rows_(2 * pictures), scratch_(backend) {
    blocks_each_ = c_.positions() / c_.block_tokens();
    const Shape cache{rows_ * blocks_each_, c_.num_heads, c_.block_tokens(), c_.head_dim()};
    for (int64_t i = 0; i < c_.transformer_blocks + c_.diffusion_blocks; ++i) {
      storage_.push_back(b_.make(b_.kv_dtype(), cache));
      storage_.push_back(b_.make(b_.kv_dtype(), cache));
      kv_.push_back({storage_[storage_.size() - 2], storage_.back()});
    }
    for (int64_t r = 0; r < rows_; ++r) {
      auto& blocks = tables_.emplace_back();
      for (int64_t i = 0; i < blocks_each_; ++i) blocks.push_back(static_cast<int32_t>(r * blocks_each_ + i));
    }
    modulation_ = b_.make(DType::kF32, {1, model.decoder().modulation_size()});
    latents_ = b_.make(DType::kF32, {pictures, c_.latent_size()}), v_ = b_.make(DType::kF32, {rows_, c_.latent_size()});
    scales_ = b_.make(DType::kF32, {pictures, 5});
    begins_ = indices(b_, counting(pictures + 1, 2)), own_ = indices(b_, counting(pictures));
  }

  // A call of the decoder and the sampler's step.
  void timestep(const DiffusionDecoder::Batch& batch) {
    m_.decoder().velocity(latents_, batch, modulation_, std::vector<int32_t>(static_cast<size_t>(rows_), 0), decoder_layers(), v_, scratch_);
    b_.flow_step(latents_, v_, begins_, own_, scales_, {}, own_);
  }
  DiffusionDecoder::Batch prepare(int64_t pass) {
    std::vector<int32_t> states;
    std::vector<ConditionRow> conditions;
    for (int64_t r = 0; r < rows_; ++r) {
      states.push_back(static_cast<int32_t>(r / 2));
      const auto table = std::span<const int32_t>(tables_[static_cast<size_t>(r)]);
      conditions.push_back({table.subspan(static_cast<size_t>(c_.class_tokens / c_.block_tokens())), (pass + 1) * c_.pass_tokens});
    }
    return m_.decoder().prepare(states, conditions, scratch_);
  }
  // The transformer's positions of a pass, then what the decoder keeps of them.
  void features(int64_t pass) {
    const Scratch::Frame frame(scratch_);
    const int64_t b = c_.block_tokens(), first = pass == 0 ? 0 : c_.positions_of_pass(pass - 1), end = c_.positions_of_pass(pass), count = end - first;
    std::vector<int32_t> slots, table_rows, lengths, all, kept, kept_slots, tokens;
    for (int64_t r = 0; r < rows_; ++r) {
      const auto& table = tables_[static_cast<size_t>(r)];
      all.insert(all.end(), table.begin(), table.end());
      for (int64_t p = first; p < end; ++p) {
        const auto slot = static_cast<int32_t>(table[static_cast<size_t>(p / b)] * b + p % b);
        slots.push_back(slot);
        table_rows.push_back(static_cast<int32_t>(r));
        lengths.push_back(static_cast<int32_t>(p < c_.class_tokens ? c_.class_tokens : end));
        if (p < c_.class_tokens) continue;
        kept.push_back(static_cast<int32_t>(r * count + p - first));
        kept_slots.push_back(slot);
        tokens.push_back(static_cast<int32_t>(p - c_.class_tokens));
      }
    }
    const TensorView x = scratch_.take(DType::kF32, {rows_ * count, c_.width}), out = scratch_.take(DType::kF32, {rows_ * count, c_.width});
    if (pass == 0) {
      m_.transformer().embed_first(std::vector<int32_t>(static_cast<size_t>(rows_), 7), x, scratch_);
    } else {
      for (int64_t r = 0; r < rows_; ++r) {
        m_.transformer().embed_reference(latents_.view.row_slice(r / 2, r / 2 + 1).reshape({1, c_.grid, c_.grid, c_.latent_channels}), pass,
                                         x.row_slice(r * count, (r + 1) * count), scratch_);
      }
    }
    const PagedContext context{scratch_.index(all).reshape({rows_, blocks_each_}), scratch_.index(table_rows), scratch_.index(lengths),
                               true};
    m_.transformer().forward(x, scratch_.index(slots), context, std::span(kv_).first(static_cast<size_t>(c_.transformer_blocks)), out, scratch_);
    const auto m = static_cast<int64_t>(kept.size());
    const TensorView picked = scratch_.take(DType::kF32, {m, c_.width}), condition = scratch_.take(DType::kF32, {m, c_.width});
    b_.gather_rows(out, scratch_.index(kept), picked);
    m_.transformer().add_positions(picked, tokens, condition, scratch_);
    m_.decoder().store_condition(condition, scratch_.index(kept_slots), decoder_layers(), scratch_);
  }
  void sample(int64_t timesteps) {
    for (int64_t pass = 0; pass < c_.num_passes; ++pass) {
      features(pass);
      const Scratch::Frame frame(scratch_);
      const DiffusionDecoder::Batch batch = prepare(pass);
      for (int64_t k = 0; k < timesteps; ++k) timestep(batch);
    }
  }

 private:
  std::span<const KvLayer> decoder_layers() const { return std::span(kv_).subspan(static_cast<size_t>(c_.transformer_blocks)); }

  Backend& b_;
  const Model& m_;
  const TransDiffConfig& c_;
  int64_t pictures_, rows_, blocks_each_ = 0;
  Scratch scratch_;
  std::vector<Tensor> storage_;
  std::vector<KvLayer> kv_;
  std::vector<std::vector<int32_t>> tables_;
  Tensor modulation_, latents_, v_, scales_, begins_, own_;
};

// A call of the last pass, the one with the most condition.
std::function<void()> last_call(Backend& backend, const Model& model, int64_t pictures) {
  const auto all = std::make_shared<Pictures>(backend, model, pictures);
  return [all, batch = std::make_shared<DiffusionDecoder::Batch>(all->prepare(model.config().num_passes - 1))] { all->timestep(*batch); };
}

double call_flops(const TransDiffConfig& c, int64_t rows, int64_t condition) {
  const auto n = static_cast<double>(c.latent_tokens()), d = static_cast<double>(c.width), m = static_cast<double>(condition);
  return 2.0 * static_cast<double>(rows * c.diffusion_blocks) * (14 * n * d * d + 2 * n * n * d + 2 * n * m * d);
}

void sampling(Context& c, const char* name, const TransDiffConfig& config) {
  const Model plain(c.backend, config), graphs(c.graphs, config);
  const auto model_of = [&](const Backend& backend) -> const Model& { return &backend == &c.graphs ? graphs : plain; };
  for (const int64_t pictures : {1, 4, 16}) {
    const Compared call = compare(c, [&](Backend& backend) { return last_call(backend, model_of(backend), pictures); });
    const double flops = call_flops(config, 2 * pictures, config.condition_tokens());
    std::printf("| %s | decoder call | %ld | %.2f | %.2f | %.2f | %.2f | %ld | %.0f | %.0f |\n", name, pictures, call.plain.device * 1e3, call.plain.host * 1e3,
                call.graph.device * 1e3, call.graph.host * 1e3, call.launches, flops / call.plain.device / 1e12, flops / call.graph.device / 1e12);
  }
  // Graphs alone, as the server runs: op by op is in the calls above.
  Pictures pictures(c.graphs, graphs, 1);
  std::vector<std::byte> bytes(c.graphs_probe.view.bytes());
  const auto sampled = [&](int64_t timesteps) {
    const double begin = now();
    pictures.sample(timesteps);
    c.graphs.download(c.graphs_probe, bytes.data());
    return now() - begin;
  };
  sampled(3);  // of each pass: op by op, captured, replayed
  std::printf("| %s | a picture, %ld passes of %ld | 1 | | | %.0f | | | | |\n", name, config.num_passes, kPassTimesteps, sampled(kPassTimesteps) * 1e3);
}

}  // namespace

void class_shares(Context& c) {
  for (const int64_t pictures : {1, 16}) {
    std::unique_ptr<Model> made;
    print_shares(c, "TransDiff-L, a decoder call, " + std::to_string(pictures) + " pictures", [&](Backend& backend) {
      made = std::make_unique<Model>(backend, model(1024, 16, 32, 16));
      return last_call(backend, *made, pictures);
    });
  }
}

void classes(Context& c) {
  std::printf("\n## TransDiff, 256 x 256, guidance, without the autoencoder\n\n");
  std::printf("| model | what | pictures | ms | host ms | graph: ms | host ms | launches | TFLOP/s | of the graph |\n|---|---|---|---|---|---|---|---|---|---|\n");
  sampling(c, "L", model(1024, 16, 32, 16));
  sampling(c, "H", model(1280, 16, 40, 20));
}

}  // namespace ardiff::bench
