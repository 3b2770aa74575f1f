#include "model/backbone.h"

namespace ardiff {

void Backbone::forward(const TensorView& x, const BackboneBatch& batch, std::span<const KvLayer> kv, Scratch& scratch,
                       const EntropyProbe* probe) const {
  StretchKey key(owner_);
  key.add(x).add(batch.positions).add(batch.slots).add(batch.context).add(kv);
  if (probe != nullptr) key.add(probe->first_keys).add(std::span<const TensorView>(probe->entropy));
  scratch.add_place(key);
  backend_.run_stretch(key, [&] {
    const int64_t m = x.rows();
    const Scratch::Frame frame(scratch);
    const TensorView cos = scratch.take(DType::kF32, {m, config_.head_dim / 2});
    const TensorView sin = scratch.take(DType::kF32, {m, config_.head_dim / 2});
    backend_.rope_angles(batch.positions, config_.rope_theta, cos, sin);
    for (size_t i = 0; i < weights_.layers.size(); ++i) {
      attention(x, weights_.layers[i], batch, cos, sin, kv[i], scratch, probe, probe == nullptr ? TensorView() : probe->entropy[i]);
      mlp(x, weights_.layers[i], scratch);
    }
  });
}

void Backbone::attention(const TensorView& x, const BackboneLayerWeights& layer, const BackboneBatch& batch, const TensorView& cos,
                         const TensorView& sin, const KvLayer& kv, Scratch& scratch, const EntropyProbe* probe, const TensorView& entropy) const {
  const int64_t m = x.rows();
  const int64_t q_size = config_.num_heads * config_.head_dim;
  const Scratch::Frame frame(scratch);
  const TensorView normed = scratch.take(backend_.activation_dtype(), {m, config_.hidden_size});
  const TensorView qkv = scratch.take(DType::kF32, {m, layer.qkv->out_features});
  const TensorView q = scratch.take(DType::kF32, {m, q_size});
  const TensorView o = scratch.take(backend_.activation_dtype(), {m, q_size});
  backend_.norm_linear_rope_store(x, RowNorm::rms(layer.input_norm, config_.rms_norm_eps), normed, *layer.qkv, qkv, cos, sin, batch.slots, q, kv);
  backend_.paged_attention(q, kv, batch.context, o);
  if (entropy) backend_.attention_entropy(q, kv, batch.context, probe->first_keys, entropy);
  backend_.linear(o, *layer.out, x, Epilogue::add());
}

void Backbone::mlp(const TensorView& x, const BackboneLayerWeights& layer, Scratch& scratch) const {
  const int64_t m = x.rows();
  const Scratch::Frame frame(scratch);
  const TensorView normed = scratch.take(backend_.activation_dtype(), {m, config_.hidden_size});
  const TensorView gate_up = scratch.take(DType::kF32, {m, 2 * config_.intermediate_size});
  const TensorView inner = scratch.take(backend_.activation_dtype(), {m, config_.intermediate_size});
  backend_.norm_linear_silu_mul(x, RowNorm::rms(layer.post_norm, config_.rms_norm_eps), normed, *layer.gate_up, gate_up, inner);
  backend_.linear(inner, *layer.down, x, Epilogue::add());
}

void Backbone::final_norm(const TensorView& x, const TensorView& y) const { backend_.rms_norm(x, weights_.norm, config_.rms_norm_eps, y); }

}  // namespace ardiff
