#include "model/weights.h"

#include <cstring>

#include "model/released_constants.h"

namespace ardiff {

namespace {

// weight (+ bias where the checkpoint has one: its presence is decided by the tensor, not by config flags).
LinearPart part(const Checkpoint& checkpoint, const std::string& name, int64_t in, int64_t out) {
  return {checkpoint.require(name + ".weight", {out, in}), checkpoint.optional(name + ".bias", {out})};
}

std::unique_ptr<Linear> linear(Backend& backend, const Checkpoint& checkpoint, const std::string& name, int64_t in, int64_t out) {
  const LinearPart only = part(checkpoint, name, in, out);
  return backend.prepare_linear({&only, 1});
}

Tensor vector(Backend& backend, const Checkpoint& checkpoint, const std::string& name, int64_t size) {
  return upload_f32(backend, checkpoint.require(name, {size}));
}

BackboneLayerWeights load_layer(Backend& backend, const Checkpoint& checkpoint, const BackboneConfig& c, size_t index) {
  const int64_t h = c.hidden_size, q = c.num_heads * c.head_dim, kv = c.num_kv_heads * c.head_dim;
  const std::string p = "layers." + std::to_string(index) + ".";
  BackboneLayerWeights layer;
  layer.input_norm = vector(backend, checkpoint, p + "input_layernorm.weight", h);
  const LinearPart qkv[] = {part(checkpoint, p + "self_attn.q_proj", h, q), part(checkpoint, p + "self_attn.k_proj", h, kv),
                            part(checkpoint, p + "self_attn.v_proj", h, kv)};
  layer.qkv = backend.prepare_linear(qkv);
  layer.out = linear(backend, checkpoint, p + "self_attn.o_proj", q, h);
  layer.post_norm = vector(backend, checkpoint, p + "post_attention_layernorm.weight", h);
  const LinearPart gate_up[] = {part(checkpoint, p + "mlp.gate_proj", h, c.intermediate_size),
                                part(checkpoint, p + "mlp.up_proj", h, c.intermediate_size)};
  layer.gate_up = backend.prepare_linear(gate_up);
  layer.down = linear(backend, checkpoint, p + "mlp.down_proj", c.intermediate_size, h);
  return layer;
}

struct HeadShape {
  std::string prefix;
  int64_t width;       // W
  int64_t num_blocks;
  int64_t token_size;  // D
  int64_t hidden;      // H
};

FlowHeadWeights load_head(Backend& backend, const Checkpoint& checkpoint, const HeadShape& shape) {
  const auto& [p, w, num_blocks, d, h] = shape;
  FlowHeadWeights out;
  out.width = w;
  out.token_size = d;
  out.time_in = linear(backend, checkpoint, p + "time_embed.mlp.0", kTimeFeatures, w);
  out.time_out = linear(backend, checkpoint, p + "time_embed.mlp.2", w, w);
  out.condition = linear(backend, checkpoint, p + "cond_embed", h, w);
  out.input = linear(backend, checkpoint, p + "input_proj", d, w);
  std::vector<LinearPart> modulation;
  for (int64_t j = 0; j < num_blocks; ++j) {
    const std::string b = p + "res_blocks." + std::to_string(j) + ".";
    // The MLP's inner width is the checkpoint's own (ratio 1.0 in the releases).
    const HostTensor up = checkpoint.find(b + "mlp.0.weight");
    check(up && up.shape.rank() == 2, ErrorCode::kInvalidModel, checkpoint.label(), ": tensor '", b, "mlp.0.weight' is missing or not a matrix");
    const int64_t r = up.shape[0];
    FlowHeadBlockWeights block;
    block.norm_weight = vector(backend, checkpoint, b + "in_ln.weight", w);
    block.norm_bias = vector(backend, checkpoint, b + "in_ln.bias", w);
    block.up = linear(backend, checkpoint, b + "mlp.0", w, r);
    block.down = linear(backend, checkpoint, b + "mlp.2", r, w);
    out.blocks.push_back(std::move(block));
    modulation.push_back(part(checkpoint, b + "adaLN_modulation.1", w, 3 * w));
  }
  check(!checkpoint.find(p + "res_blocks." + std::to_string(num_blocks) + ".in_ln.weight"), ErrorCode::kInvalidModel,
        checkpoint.label(), ": more flow-head blocks than the config's ", num_blocks);
  modulation.push_back(part(checkpoint, p + "final_layer.adaLN_modulation.1", w, 2 * w));
  out.modulation = backend.prepare_linear(modulation);
  out.output = linear(backend, checkpoint, p + "final_layer.linear", w, d);
  return out;
}

}  // namespace

Tensor upload_f32(Backend& backend, const HostTensor& tensor) {
  const auto count = static_cast<size_t>(tensor.shape.size());
  Tensor out = backend.make(DType::kF32, tensor.shape);
  if (tensor.dtype == DType::kF32) {
    backend.upload(out.view, tensor.data);
    return out;
  }
  std::vector<float> values(count);
  const auto* halves = static_cast<const uint16_t*>(tensor.data);
  for (size_t i = 0; i < count; ++i) values[i] = tensor.dtype == DType::kBF16 ? bf16_to_f32(halves[i]) : f16_to_f32(halves[i]);
  backend.upload(out.view, values.data());
  return out;
}

BackboneWeights load_backbone(Backend& backend, const Checkpoint& checkpoint, const NextStepConfig& config) {
  const BackboneConfig& c = config.backbone;
  const int64_t h = c.hidden_size;
  BackboneWeights out;
  const HostTensor embed = checkpoint.require("embed_tokens.weight", {c.vocab_size, h});
  out.embed_tokens = backend.make(embed.dtype, embed.shape);
  backend.upload(out.embed_tokens.view, embed.data);
  for (int64_t i = 0; i < c.num_layers; ++i) out.layers.push_back(load_layer(backend, checkpoint, c, static_cast<size_t>(i)));
  out.norm = vector(backend, checkpoint, "norm.weight", h);
  out.image_in = linear(backend, checkpoint, "image_in_projector", config.image.token_size(), h);
  out.image_out = linear(backend, checkpoint, "image_out_projector", h, h);
  return out;
}

FlowHeadWeights load_flow_head(Backend& backend, const Checkpoint& checkpoint, const NextStepConfig& config) {
  return load_head(backend, checkpoint,
                   {"image_head.net.", config.head.width, config.head.num_blocks, config.image.token_size(), config.backbone.hidden_size});
}

FlowHeadWeights load_accelerator_head(Backend& backend, const Checkpoint& checkpoint, const std::string& prefix, const NextStepConfig& config) {
  const HostTensor condition = checkpoint.find(prefix + "cond_embed.weight");
  check(condition && condition.shape.rank() == 2, ErrorCode::kInvalidModel, checkpoint.label(), ": tensor '", prefix,
        "cond_embed.weight' is missing or not a matrix");
  const int64_t w = condition.shape[0];
  check(w >= 1 && w <= (1 << 16), ErrorCode::kInvalidModel, checkpoint.label(), ": a head of width ", w);
  const int64_t blocks = checkpoint.count_numbered(prefix + "res_blocks.");
  FlowHeadWeights out = load_head(backend, checkpoint, {prefix, w, blocks, config.image.token_size(), config.backbone.hidden_size});
  if (checkpoint.find(prefix + "interval_embed.mlp.0.weight")) {
    out.interval_in = linear(backend, checkpoint, prefix + "interval_embed.mlp.0", kTimeFeatures, w);
    out.interval_out = linear(backend, checkpoint, prefix + "interval_embed.mlp.2", w, w);
  }
  return out;
}

DraftWeights load_draft(Backend& backend, const Checkpoint& checkpoint, const NextStepConfig& config) {
  const int64_t h = config.backbone.hidden_size;
  DraftWeights out;
  out.feature_norm = vector(backend, checkpoint, "feature_norm.weight", h);
  out.token_norm = vector(backend, checkpoint, "token_norm.weight", h);
  out.fuse = linear(backend, checkpoint, "fc", 2 * h, h);
  const int64_t layers = checkpoint.count_numbered("layers.");
  check(layers >= 1, ErrorCode::kInvalidModel, checkpoint.label(), ": a draft model without layers");
  for (int64_t i = 0; i < layers; ++i) out.blocks.layers.push_back(load_layer(backend, checkpoint, config.backbone, static_cast<size_t>(i)));
  out.blocks.norm = vector(backend, checkpoint, "norm.weight", h);
  out.out = linear(backend, checkpoint, "out", h, h);
  const Tensor mask = vector(backend, checkpoint, "mask_token", h);
  out.mask_token = {mask.storage, mask.view.reshape({1, h})};
  return out;
}

}  // namespace ardiff
