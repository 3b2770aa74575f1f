// The flow-matching head (nextstep.md 7.1): velocity of one image token given its noisy value, the time and the
// backbone's condition.
//
// What depends on the time alone (its embedding) is computed once per time grid, what depends on time and
// condition (every adaLN modulation, most of the head's weights) once per token for many timesteps together:
// reading those weights once per token instead of once per timestep is what makes small batches fast.
#pragma once

#include <span>

#include "backend/backend.h"
#include "model/weights.h"
#include "backend/scratch.h"

namespace ardiff {

class FlowHead {
 public:
  FlowHead(Backend& backend, FlowHeadWeights weights)
      : backend_(backend), width_(weights.width), token_size_(weights.token_size), weights_(std::move(weights)) {}

  int64_t width() const { return width_; }
  int64_t token_size() const { return token_size_; }
  int64_t modulation_size() const { return weights_.modulation->out_features; }

  // A few-step head predicts the average velocity from t to r (docs/speculation.md), others the velocity at t.
  bool is_few_step() const { return weights_.interval_in != nullptr; }
  // tau[n] = time_embed(t[n]), of a few-step head + interval_embed(r[n] - t[n]). t, r: host, N values in [0, 1]; r is
  // read by a few-step head only. tau: (N, W) f32.
  void embed_times(std::span<const float> t, std::span<const float> r, const TensorView& tau, Scratch& scratch) const;
  // y = cond_embed(c). c: (R, H) act or f32, already through image_out_projector; y: (R, W) f32.
  void embed_condition(const TensorView& c, const TensorView& y) const;
  // modulation[m] = all adaLN layers of silu(tau[tau_index[m]] + condition[condition_index[m]]); (M, modulation_size) f32.
  void modulate(const TensorView& tau, const TensorView& tau_index, const TensorView& condition, const TensorView& condition_index,
                const TensorView& modulation, Scratch& scratch) const;
  // v = net(x, t, c) with t and c inside `modulation`. x: (S, D) f32, one row per token; x_row: (R) i32 names the
  // token of each guidance row; modulation: (R, modulation_size); v: (R, D) f32.
  void velocity(const TensorView& x, const TensorView& x_row, const TensorView& modulation, const TensorView& v, Scratch& scratch) const;

 private:
  Backend& backend_;
  int64_t width_;
  int64_t token_size_;
  FlowHeadWeights weights_;
  StretchOwner owner_;
};

}  // namespace ardiff
