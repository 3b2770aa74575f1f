// The draft model of an accelerator (docs/speculation.md, The draft model): from the target's feature at a position and
// the input after it, the feature that the target will have there.
#pragma once

#include <span>

#include "model/backbone.h"

namespace ardiff {

class DraftModel {
 public:
  DraftModel(Backend& backend, const BackboneConfig& config, DraftWeights weights)
      : backend_(backend),
        eps_(config.rms_norm_eps),
        hidden_size_(config.hidden_size),
        fuse_(std::move(weights.fuse)),
        out_(std::move(weights.out)),
        feature_norm_(weights.feature_norm),
        token_norm_(weights.token_norm),
        mask_token_(weights.mask_token),
        num_layers_(static_cast<int64_t>(weights.blocks.layers.size())),
        blocks_(backend, config, std::move(weights.blocks)) {}

  int64_t num_layers() const { return num_layers_; }
  // (1, H) f32: stands for the embedding of a token that is not drawn yet, in parallel drafting.
  const TensorView& mask_token() const { return mask_token_; }

  // features, inputs: (M, H) f32, g and e of the pairs at the batch's positions; out: (M, H) f32 receives the predicted
  // features of the positions after them. kv: one entry per layer. probe may be null.
  void forward(const TensorView& features, const TensorView& inputs, const BackboneBatch& batch, std::span<const KvLayer> kv,
               const TensorView& out, Scratch& scratch, const EntropyProbe* probe = nullptr) const;

 private:
  Backend& backend_;
  float eps_;
  int64_t hidden_size_;
  std::unique_ptr<Linear> fuse_;  // 2 H -> H
  std::unique_ptr<Linear> out_;   // H -> H
  Tensor feature_norm_, token_norm_, mask_token_;
  int64_t num_layers_;
  Backbone blocks_;
  StretchOwner owner_;
};

}  // namespace ardiff
