// Draws the next image token of many sequences at once: the flow head's sampler loop (nextstep.md 7.5) over
// every sequence and guidance row of the step, whatever sampler, timesteps or guidance each one has.
#pragma once

#include <span>

#include "engine/row_pool.h"
#include "engine/sequence.h"
#include "engine/timestep_cache.h"
#include "model/flow_head.h"

namespace ardiff {

class TokenSampler {
 public:
  TokenSampler(Backend& backend, const FlowHead& head, const TimestepCache& times, Scratch& scratch, int64_t token_size)
      : backend_(backend), head_(head), times_(times), scratch_(scratch), token_size_(token_size) {}

  // condition: (R, W) f32 = cond_embed of the rows of all sequences, in order; x: (S, D) f32 receives the drawn
  // tokens (before use_norm), one row per sequence. Sequences whose cancel flag is seen stop being computed; their
  // row of x is then meaningless. Returns the number of network evaluations (timestep x guidance row).
  int64_t sample(std::span<Sequence* const> sequences, const TensorView& condition, const TensorView& x) const;

 private:
  struct Member;
  struct Noise;
  Noise draw_noise(const std::vector<Member>& members) const;
  int64_t run_timesteps(std::span<const Member> active, const Noise& noise, const TensorView& condition, const TensorView& x, int64_t begin,
                        int64_t end) const;

  Backend& backend_;
  const FlowHead& head_;
  const TimestepCache& times_;
  Scratch& scratch_;
  int64_t token_size_;
};

}  // namespace ardiff
