// A flow head that draws image tokens: its sampler loop (nextstep.md 7.5) over many tokens of many sequences at once,
// whatever sampler, timesteps or guidance each one has, and its evaluation along paths that another head has drawn.
#pragma once

#include <span>

#include "engine/sequence.h"
#include "engine/timestep_cache.h"
#include "model/flow_head.h"

namespace ardiff {

// A token to draw.
struct TokenDraw {
  const Sequence* sequence = nullptr;         // seed, guidance, recorded noise, cancel flag
  const TimestepTable* timesteps = nullptr;   // of this sampler's cache
  int64_t token = 0;                          // image token
  uint32_t attempt = 0;
  int32_t first_row = 0;                      // its rows of condition
  int32_t num_rows = 1;
  int64_t first_step = 0;                     // > 0: x holds its state after that many steps
  int32_t record = -1;                        // its row of the record for step 0; -1: not recorded
};

// What a draft's path was made of, one row per step. (rows, D) f32 each.
struct PathRecord {
  TensorView states;    // x before the step
  TensorView velocity;  // v of the step; recorded draws have one row of condition
  TensorView noise;     // z of the step; left as it is where the step draws none
};

// The steps of a token at states that are given.
struct PathPoints {
  const Sequence* sequence = nullptr;
  const TimestepTable* timesteps = nullptr;
  int64_t token = 0;
  int32_t first_row = 0;    // its rows of condition
  int32_t num_rows = 1;
  int32_t first_state = 0;  // its row of states for step 0
};

class TokenSampler {
 public:
  TokenSampler(Backend& backend, Scratch& scratch, FlowHead head)
      : backend_(backend),
        scratch_(scratch),
        head_(std::move(head)),
        times_(backend, scratch, head_.width(), kKeepUnusedTimes, [this](auto steps, const TensorView& tau) { embed_times(steps, tau); }) {}
  TokenSampler(const TokenSampler&) = delete;
  TokenSampler& operator=(const TokenSampler&) = delete;

  const FlowHead& head() const { return head_; }
  // Throws kInvalidArgument for a spec out of range.
  std::shared_ptr<const TimestepTable> timesteps(const SamplerSpec& spec) { return times_.get(spec); }

  // condition: (R, W) f32 = embed_condition of all rows; x: (draws, D) f32 receives the drawn tokens (before use_norm).
  // Draws whose sequence's cancel flag is seen stop being computed; their row of x is then meaningless. Returns the
  // number of network evaluations (timestep x row).
  int64_t sample(std::span<const TokenDraw> draws, const TensorView& condition, const TensorView& x, const PathRecord* record = nullptr) const;

  // x: (draws, D) f32 receives each token's initial noise.
  void initial_noise(std::span<const TokenDraw> draws, const TensorView& x) const;

  // velocity: (states, D) f32 receives the guided v at each state; next, if it is there, the state one step on without
  // noise. Rows no point names are left as they are. Returns the number of network evaluations.
  int64_t evaluate(std::span<const PathPoints> paths, const TensorView& condition, const TensorView& states, const TensorView& velocity,
                   const TensorView& next) const;

 private:
  static constexpr size_t kKeepUnusedTimes = 32;
  struct Member;
  void embed_times(std::span<const SamplerStep> steps, const TensorView& tau) const;
  TensorView draw_noise(const std::vector<Member>& members, bool initial_only = false) const;
  static int64_t noise_rows(const Member& member, bool initial_only);
  int64_t run_timesteps(std::span<const Member> active, const TensorView& noise, const TensorView& condition, const TensorView& x, int64_t begin,
                        int64_t end, const PathRecord* record) const;

  Backend& backend_;
  Scratch& scratch_;
  FlowHead head_;
  TimestepCache times_;
  StretchOwner owner_;
};

}  // namespace ardiff
