#include "model/transdiff_weights.h"

#include "backend/host_memory.h"
#include "model/released_constants.h"

namespace ardiff {

namespace {

constexpr const char* kDecoder = "diffdecoder.net.";

class Loader {
 public:
  Loader(Backend& backend, const Checkpoint& checkpoint) : backend_(backend), checkpoint_(checkpoint) {}

  // Every linear layer of the family has a bias.
  LinearPart part(const std::string& name, int64_t in, int64_t out) const {
    return {checkpoint_.require(name + ".weight", {out, in}), checkpoint_.require(name + ".bias", {out})};
  }
  std::unique_ptr<Linear> linear(const std::string& name, int64_t in, int64_t out) const {
    const LinearPart only = part(name, in, out);
    return backend_.prepare_linear({&only, 1});
  }
  // One that sees whole passes alone: the transformer's positions, the decoder's latents and conditions.
  std::unique_ptr<Linear> picture_linear(const std::string& name, int64_t in, int64_t out) const {
    const LinearPart only = part(name, in, out);
    return backend_.prepare_picture_linear({&only, 1});
  }
  LayerNormWeights norm(const std::string& name, int64_t width) const {
    return {upload(host(name + ".weight", {width}), {width}), upload(host(name + ".bias", {width}), {width})};
  }
  MlpWeights mlp(const std::string& name, int64_t width) const {
    return {picture_linear(name + ".fc1", width, 4 * width), picture_linear(name + ".fc2", 4 * width, width)};
  }
  std::vector<float> host(const std::string& name, const Shape& shape) const {
    const HostTensor tensor = checkpoint_.require(name, shape);
    std::vector<float> out(static_cast<size_t>(shape.size()));
    read_f32(tensor, 0, shape.size(), out.data());
    return out;
  }
  // A table stored as (1, rows, width).
  Tensor table(const std::string& name, int64_t rows, int64_t width) const { return upload(host(name, {1, rows, width}), {rows, width}); }
  Tensor upload(const std::vector<float>& values, const Shape& shape) const {
    Tensor out = backend_.make(DType::kF32, shape);
    backend_.upload(out.view, values.data());
    return out;
  }
  void expect_blocks(const std::string& prefix, int64_t expected) const {
    const int64_t found = checkpoint_.count_numbered(prefix);
    check(found == expected, ErrorCode::kInvalidModel, checkpoint_.label(), ": ", found, " blocks named ", prefix, "*, the config says ", expected);
  }

 private:
  Backend& backend_;
  const Checkpoint& checkpoint_;
};

TransformerBlockWeights load_transformer_block(const Loader& load, const std::string& p, int64_t d) {
  TransformerBlockWeights out;
  out.attention_norm = load.norm(p + "norm1", d);
  out.qkv = load.picture_linear(p + "attn.qkv", d, 3 * d);
  out.out = load.picture_linear(p + "attn.proj", d, d);
  out.mlp_norm = load.norm(p + "norm2", d);
  out.mlp = load.mlp(p + "mlp", d);
  return out;
}

DiffusionBlockWeights load_diffusion_block(Backend& backend, const Loader& load, const std::string& p, int64_t d) {
  DiffusionBlockWeights out;
  out.modulation = load.host(p + "scale_shift_table", {1, 6, d});
  out.self_norm = load.norm(p + "norm1", d);
  out.qkv = load.picture_linear(p + "attn1.qkv", d, 3 * d);
  out.self_out = load.picture_linear(p + "attn1.proj", d, d);
  out.cross_norm = load.norm(p + "norm2", d);
  out.cross_q = load.picture_linear(p + "attn2.wq", d, d);
  const LinearPart kv[] = {load.part(p + "attn2.wk", d, d), load.part(p + "attn2.wv", d, d)};
  out.cross_kv = backend.prepare_picture_linear(kv);
  out.cross_out = load.picture_linear(p + "attn2.proj", d, d);
  out.mlp_norm = load.norm(p + "norm3", d);
  out.mlp = load.mlp(p + "mlp", d);
  return out;
}

}  // namespace

ClassTransformerWeights load_class_transformer(Backend& backend, const Checkpoint& checkpoint, const TransDiffConfig& config) {
  const Loader load(backend, checkpoint);
  const int64_t d = config.width;
  ClassTransformerWeights out;
  out.num_masks = config.multi_reference ? config.pass_tokens : 1;
  std::vector<float> contents = load.host("class_emb.weight", {config.num_classes, d});
  for (const auto& more : {load.host("fake_latent", {1, d}), load.host("mask_token", {1, out.num_masks, d})}) {
    contents.insert(contents.end(), more.begin(), more.end());
  }
  out.contents = load.upload(contents, {config.num_classes + 1 + out.num_masks, d});
  out.positions = load.table("encoder_pos_embed_learned", config.positions(), d);
  if (config.multi_reference) {
    out.reference_in = load.linear("z_proj", 4 * config.latent_channels, d);
  } else {
    load.part("z_proj", config.latent_channels, d);  // dead weight, but a checkpoint without it is not one of this family
  }
  out.input_norm = load.norm("z_proj_ln", d);
  load.expect_blocks("encoder_blocks.", config.transformer_blocks);
  for (int64_t i = 0; i < config.transformer_blocks; ++i) out.blocks.push_back(load_transformer_block(load, "encoder_blocks." + std::to_string(i) + ".", d));
  out.output_norm = load.norm("encoder_norm", d);
  out.output_positions = load.table("diffusion_pos_embed_learned", config.condition_tokens(), d);
  return out;
}

DiffusionDecoderWeights load_diffusion_decoder(Backend& backend, const Checkpoint& checkpoint, const TransDiffConfig& config) {
  const Loader load(backend, checkpoint);
  const std::string p = kDecoder;
  const int64_t d = config.width;
  DiffusionDecoderWeights out;
  out.positions = load.table(p + "diffusion_pos_embed_learned", config.latent_tokens(), d);
  out.time_in = load.linear(p + "time_embed.time_embedder.linear_1", kTimeFeatures, d);
  out.time_out = load.linear(p + "time_embed.time_embedder.linear_2", d, d);
  out.time_modulation = load.linear(p + "time_embed.time_proj", d, 6 * d);
  out.condition = load.picture_linear(p + "cond_embed", d, d);
  out.input = load.linear(p + "input_proj", config.latent_channels, d);
  load.expect_blocks(p + "res_blocks.", config.diffusion_blocks);
  for (int64_t i = 0; i < config.diffusion_blocks; ++i) {
    out.blocks.push_back(load_diffusion_block(backend, load, p + "res_blocks." + std::to_string(i) + ".", d));
  }
  out.final_modulation = load.host(p + "final_layer.scale_shift_table", {1, 2, d});
  out.output = load.linear(p + "final_layer.linear", d, config.latent_channels);
  return out;
}

TransDiffConfig few_step_config(const Checkpoint& checkpoint, const TransDiffConfig& model) {
  TransDiffConfig out = model;
  out.diffusion_blocks = checkpoint.count_numbered(std::string(kDecoder) + "res_blocks.");
  check(out.diffusion_blocks >= 1, ErrorCode::kInvalidModel, checkpoint.label(), ": a few-step decoder without blocks");
  return out;
}

DiffusionDecoderWeights load_few_step_decoder(Backend& backend, const Checkpoint& checkpoint, const TransDiffConfig& config) {
  DiffusionDecoderWeights out = load_diffusion_decoder(backend, checkpoint, config);
  const Loader load(backend, checkpoint);
  const std::string p = std::string(kDecoder) + "interval_embed.";
  out.interval_in = load.linear(p + "linear_1", kTimeFeatures, config.width);
  out.interval_out = load.linear(p + "linear_2", config.width, config.width);
  return out;
}

}  // namespace ardiff
