// The autoregressive transformer (nextstep.md 6.1): Llama blocks over a paged KV cache.
#pragma once

#include <span>
#include <vector>

#include "backend/backend.h"
#include "model/model_config.h"
#include "model/weights.h"
#include "backend/scratch.h"

namespace ardiff {

// M rows of one pass. Rows of any number of sequences at any positions: prefill and decode are the same thing.
struct BackboneBatch {
  TensorView positions;  // (M) i32
  TensorView slots;      // (M) i32: where the row's key and value go
  PagedContext context;  // what the row sees; its own slot included
};

// Attention entropies to take on the way (ops.h, attention_entropy).
struct EntropyProbe {
  TensorView first_keys;            // (M) i32
  std::vector<TensorView> entropy;  // per layer (M) f32; empty views are not computed
};

class Backbone {
 public:
  Backbone(Backend& backend, const BackboneConfig& config, BackboneWeights weights)
      : backend_(backend), config_(config), weights_(std::move(weights)) {}

  const BackboneWeights& weights() const { return weights_; }

  // x: (M, H) f32 input embeddings, becomes the residual stream after the last layer (before the final norm).
  // kv: one entry per layer. probe may be null.
  void forward(const TensorView& x, const BackboneBatch& batch, std::span<const KvLayer> kv, Scratch& scratch,
               const EntropyProbe* probe = nullptr) const;

  // y = final RMSNorm of rows x. Both (M, H) f32.
  void final_norm(const TensorView& x, const TensorView& y) const;

 private:
  void attention(const TensorView& x, const BackboneLayerWeights& layer, const BackboneBatch& batch, const TensorView& cos,
                 const TensorView& sin, const KvLayer& kv, Scratch& scratch, const EntropyProbe* probe, const TensorView& entropy) const;
  void mlp(const TensorView& x, const BackboneLayerWeights& layer, Scratch& scratch) const;

  Backend& backend_;
  BackboneConfig config_;
  BackboneWeights weights_;
  StretchOwner owner_;
};

}  // namespace ardiff
