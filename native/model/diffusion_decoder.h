// The diffusion decoder of TransDiff (transdiff.md 5): velocity of a whole noisy latent, given the time and the features of
// its class.
//
// What depends on the time alone (every block's modulation) is computed once per sampler setting, what depends on the
// features alone (every block's cross-attention keys and values) once per pass: neither is part of a call.
#pragma once

#include <span>

#include "backend/backend.h"
#include "backend/scratch.h"
#include "model/transdiff_weights.h"

namespace ardiff {

// What one guidance row of a call attends to: condition tokens [0, tokens) through its block table.
struct ConditionRow {
  std::span<const int32_t> blocks;
  int64_t tokens;
};

class DiffusionDecoder {
 public:
  DiffusionDecoder(Backend& backend, const TransDiffConfig& config, DiffusionDecoderWeights weights)
      : backend_(backend), config_(config), weights_(std::move(weights)) {}

  // Numbers of one time's modulation: 6 D of every block, then the final layer's 2 D.
  int64_t modulation_size() const { return (6 * config_.diffusion_blocks + 2) * config_.width; }
  int64_t num_blocks() const { return config_.diffusion_blocks; }
  // A few-step decoder predicts the average velocity from t to r (docs/speculation.md), others the velocity at t.
  bool is_few_step() const { return weights_.interval_in != nullptr; }
  // modulation: (times, modulation_size) f32. times: τ = 1000 t; ends: likewise of r, read by a few-step decoder only.
  void embed_times(std::span<const float> times, std::span<const float> ends, const TensorView& modulation, Scratch& scratch) const;

  // Keys and values of condition tokens into the cache. condition: (M, D) f32; kv: one entry per block; slots: (M).
  void store_condition(const TensorView& condition, const TensorView& slots, std::span<const KvLayer> kv, Scratch& scratch) const;

  // Index arrays of a batch that stays the same over many calls, in the scratch.
  struct Batch {
    int64_t rows = 0;             // R
    TensorView inputs;            // (R N) row of the embedded tokens
    TensorView slots;             // (R N) of the rows' own keys and values
    PagedContext own, condition;  // what each token sees
  };
  // states: for each guidance row the row of x that it looks at.
  Batch prepare(std::span<const int32_t> states, std::span<const ConditionRow> conditions, Scratch& scratch) const;

  // x: (S, N C) f32 latents, channels last; times: for each guidance row its row of modulation; v: (R, N C) f32.
  void velocity(const TensorView& x, const Batch& batch, const TensorView& modulation, std::span<const int32_t> times, std::span<const KvLayer> kv,
                const TensorView& v, Scratch& scratch) const;

 private:
  void self_attention(const TensorView& h, const DiffusionBlockWeights& block, const Batch& batch, const TensorView& modulation,
                      const TensorView& modulation_rows, const KvLayer& own, Scratch& scratch) const;
  void cross_attention(const TensorView& h, const DiffusionBlockWeights& block, const Batch& batch, const KvLayer& kv, Scratch& scratch) const;

  Backend& backend_;
  TransDiffConfig config_;
  DiffusionDecoderWeights weights_;
  StretchOwner owner_;
};

}  // namespace ardiff
