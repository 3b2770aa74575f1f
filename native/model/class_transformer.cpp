#include "model/class_transformer.h"

#include "model/released_constants.h"

namespace ardiff {

void add_gelu_mlp(Backend& backend, const MlpWeights& mlp, const TensorView& u, const TensorView& x, const Epilogue& add, Scratch& scratch) {
  const Scratch::Frame frame(scratch);
  const TensorView inner = scratch.take(backend.activation_dtype(), {u.rows(), mlp.in->out_features});
  backend.linear(u, *mlp.in, inner, Epilogue::gelu());
  backend.linear(inner, *mlp.out, x, add);
}

void ClassTransformer::embed_first(std::span<const int32_t> classes, const TensorView& x, Scratch& scratch) const {
  const Scratch::Frame frame(scratch);
  std::vector<int32_t> contents, positions;
  for (const int32_t label : classes) {
    for (int64_t i = 0; i < config_.class_tokens; ++i) contents.push_back(label);
    for (int64_t i = 0; i < config_.pass_tokens; ++i) contents.push_back(null_class() + 1 + static_cast<int32_t>(i % weights_.num_masks));
    for (int64_t i = 0; i < config_.positions_of_pass(0); ++i) positions.push_back(static_cast<int32_t>(i));
  }
  const TensorView content = scratch.take(DType::kF32, x.shape);
  backend_.gather_rows(weights_.contents, scratch.index(contents), content);
  backend_.gather_rows(weights_.positions, scratch.index(positions), x);
  backend_.add(content, x, x);
}

void ClassTransformer::embed_reference(const TensorView& latent, int64_t pass, const TensorView& x, Scratch& scratch) const {
  const Scratch::Frame frame(scratch);
  const int64_t m = config_.pass_tokens;
  const TensorView patches = scratch.take(DType::kF32, {m, 4 * config_.latent_channels});
  // Token (row, column) of the half-sized grid, number 4 c + 2 p + q of latent[c, 2 row + p, 2 column + q].
  backend_.patchify(latent, config_.grid / 2, 1.0f, 0.0f, patches);
  std::vector<int32_t> positions;
  for (int64_t i = 0; i < m; ++i) positions.push_back(static_cast<int32_t>(config_.positions_of_pass(pass - 1) + i));
  backend_.gather_rows(weights_.positions, scratch.index(positions), x);
  backend_.linear(patches, *weights_.reference_in, x, Epilogue::add());
}

void ClassTransformer::forward(const TensorView& x, const TensorView& slots, const PagedContext& context, std::span<const KvLayer> kv,
                               const TensorView& features, Scratch& scratch) const {
  backend_.layer_norm(x, weights_.input_norm.weight, weights_.input_norm.bias, kNormEps, x);
  for (size_t i = 0; i < weights_.blocks.size(); ++i) {
    const TransformerBlockWeights& block = weights_.blocks[i];
    attention(x, block, slots, context, kv[i], scratch);
    const Scratch::Frame frame(scratch);
    const TensorView normed = scratch.take(backend_.activation_dtype(), x.shape);
    backend_.layer_norm(x, block.mlp_norm.weight, block.mlp_norm.bias, kNormEps, normed);
    add_gelu_mlp(backend_, block.mlp, normed, x, Epilogue::add(), scratch);
  }
  backend_.layer_norm(x, weights_.output_norm.weight, weights_.output_norm.bias, kNormEps, features);
}

void ClassTransformer::attention(const TensorView& x, const TransformerBlockWeights& block, const TensorView& slots, const PagedContext& context,
                                 const KvLayer& kv, Scratch& scratch) const {
  const Scratch::Frame frame(scratch);
  const int64_t d = config_.width;
  const TensorView normed = scratch.take(backend_.activation_dtype(), x.shape);
  const TensorView qkv = scratch.take(DType::kF32, {x.rows(), 3 * d});
  const TensorView out = scratch.take(backend_.activation_dtype(), x.shape);
  backend_.layer_norm(x, block.attention_norm.weight, block.attention_norm.bias, kNormEps, normed);
  backend_.linear(normed, *block.qkv, qkv, Epilogue::store());
  backend_.store_kv(qkv.col_slice(d, 3 * d), slots, kv);
  backend_.paged_attention(qkv.col_slice(0, d), kv, context, out);
  backend_.linear(out, *block.out, x, Epilogue::add());
}

void ClassTransformer::add_positions(const TensorView& features, const std::vector<int32_t>& tokens, const TensorView& condition, Scratch& scratch) const {
  const Scratch::Frame frame(scratch);
  const TensorView positions = scratch.take(DType::kF32, features.shape);
  backend_.gather_rows(weights_.output_positions, scratch.index(tokens), positions);
  backend_.add(features, positions, condition);
}

}  // namespace ardiff
