// Runs the transformer for passes that are about to be drawn and leaves what they attend to in the cache: the transformer's
// own keys and values, of which later passes are made, and those of the cross-attention of the decoders that will draw them.
#pragma once

#include <list>
#include <memory>
#include <span>
#include <vector>

#include "engine/kv_cache.h"
#include "model/class_transformer.h"
#include "model/diffusion_decoder.h"

namespace ardiff {

class ClassFeatures {
 public:
  // Passes [first, end) of one guidance row.
  struct Request {
    int32_t label = 0;                             // a class, or the null class
    int64_t first = 0;
    int64_t end = 1;
    std::span<const int32_t> blocks;               // holds all positions of pass end - 1
    std::span<const int32_t> latents;              // rows of the latent pool, one per pass; [0, end - 1) are read
    bool for_model = true;                         // who will attend to them: the model's decoder,
    bool for_few_step = false;                     // and the few-step decoder, if there is one
  };

  // few_step: null without. keep_classes: those of a model without references.
  ClassFeatures(Backend& backend, Scratch& scratch, const TransDiffConfig& config, const ClassTransformer& transformer, const DiffusionDecoder& decoder,
                const DiffusionDecoder* few_step, bool keep_classes);

  // Layers of a KvCache: the transformer's (none without references, see below), then the decoder's and the few-step decoder's.
  static KvShape kv_shape(const TransDiffConfig& config, int64_t few_step_blocks);
  // Of those, the two decoders'.
  std::span<const KvLayer> model_layers(const KvCache& kv) const { return kv.second_layers().first(static_cast<size_t>(decoder_.num_blocks())); }
  std::span<const KvLayer> few_step_layers(const KvCache& kv) const { return kv.second_layers().subspan(static_cast<size_t>(decoder_.num_blocks())); }

  // latents: (rows, N C) f32, channels last. features, if it is there, receives (Σ (end - first) * pass tokens, D) f32 in the
  // order of requests, passes and tokens: the transformer's output; without references what the decoder is given, positions
  // included. conditions, if they are there, receive for each request what its keys and values are made of, likewise. Returns the
  // number of rows the transformer was run over.
  int64_t compute(std::span<const Request> requests, const TensorView& latents, const KvCache& kv, const TensorView& features = {},
                  std::span<const TensorView> conditions = {});

  // Where the condition tokens of a row begin among its blocks.
  std::span<const int32_t> condition_blocks(std::span<const int32_t> blocks) const {
    return blocks.subspan(static_cast<size_t>(config_.class_tokens / config_.block_tokens()));
  }

 private:
  int64_t run_passes(std::span<const Request> requests, const TensorView& latents, const KvCache& kv, const TensorView& features,
                     std::span<const TensorView> conditions);
  // Without references the features are a function of the class: computed once, one class at a time, and kept.
  const TensorView& features_of_class(int32_t label, int64_t& rows_run);
  void store(std::span<const Request> requests, const TensorView& condition, const KvCache& kv);

  Backend& backend_;
  Scratch& scratch_;
  TransDiffConfig config_;
  const ClassTransformer& transformer_;
  const DiffusionDecoder& decoder_;
  const DiffusionDecoder* few_step_;
  bool keep_classes_;

  struct Kept {
    int32_t label;
    Tensor condition;  // (M, D) f32
  };
  std::list<Kept> kept_;                // most recently used first
  std::unique_ptr<KvCache> one_class_;  // the transformer's keys and values while it computes a class
};

}  // namespace ardiff
