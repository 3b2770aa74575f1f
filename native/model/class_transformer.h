// The transformer of TransDiff (transdiff.md 4): from a class, and the latents drawn before, to the features that the
// diffusion decoder attends to. Blocks of positions see each other whole and nothing later, so keys and values of earlier
// blocks stay what they are and are cached.
#pragma once

#include <span>

#include "backend/backend.h"
#include "backend/scratch.h"
#include "model/transdiff_weights.h"

namespace ardiff {

class ClassTransformer {
 public:
  ClassTransformer(Backend& backend, const TransDiffConfig& config, ClassTransformerWeights weights)
      : backend_(backend), config_(config), weights_(std::move(weights)) {}

  int32_t null_class() const { return static_cast<int32_t>(config_.num_classes); }

  // Inputs of the first pass of some rows: class tokens, then mask tokens. x: (R * positions_of_pass(0), D) f32.
  void embed_first(std::span<const int32_t> classes, const TensorView& x, Scratch& scratch) const;
  // Inputs of pass `pass` >= 1, made of the latent before it. latent: (1, side, side, C) f32; x: (pass tokens, D) f32.
  void embed_reference(const TensorView& latent, int64_t pass, const TensorView& x, Scratch& scratch) const;

  // x: (M, D) f32 inputs, overwritten; slots: (M), where the rows' keys and values go; context: what they see, their own
  // block included; kv: one entry per block; features: (M, D) f32.
  void forward(const TensorView& x, const TensorView& slots, const PagedContext& context, std::span<const KvLayer> kv, const TensorView& features,
               Scratch& scratch) const;

  // condition[m] = features[m] + the decoder's position token[m]. Both (M, D) f32; tokens: condition tokens.
  void add_positions(const TensorView& features, const std::vector<int32_t>& tokens, const TensorView& condition, Scratch& scratch) const;

 private:
  void attention(const TensorView& x, const TransformerBlockWeights& block, const TensorView& slots, const PagedContext& context, const KvLayer& kv,
                 Scratch& scratch) const;

  Backend& backend_;
  TransDiffConfig config_;
  ClassTransformerWeights weights_;
};

// x += mlp(u), of transformer and decoder alike: u (M, D) act normed (and modulated) rows; added as `add` says.
void add_gelu_mlp(Backend& backend, const MlpWeights& mlp, const TensorView& u, const TensorView& x, const Epilogue& add, Scratch& scratch);

}  // namespace ardiff
