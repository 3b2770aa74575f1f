// The engine's memory of one TransDiff picture being drawn. KV blocks are not part of it: they come with each plan.
#pragma once

#include <atomic>
#include <memory>
#include <optional>
#include <vector>

#include "engine/pass_steps.h"
#include "engine/step_plan.h"
#include "engine/timestep_cache.h"
#include "speculation/draft_length.h"
#include "tensor/tensor_view.h"

namespace ardiff {

// What a picture whose references are drafted remembers between steps. It survives preemption: nothing in it can be computed again.
struct ReferenceDrafting {
  std::shared_ptr<const TimestepTable> jumps;   // of a draft, in the few-step decoder's tables
  std::shared_ptr<const TimestepTable> judged;  // the same times in those of the model's decoder
  speculation::AcceptanceHistory history;       // in passes
  int64_t decided = 0;                          // passes below it were drafted, or it was decided that they are not
};

struct TransDiffSequence {
  SequenceSpec spec;
  PassSteps steps{1, 1, 1};
  // In the tables of the decoder that draws the pass.
  std::shared_ptr<const TimestepTable> timesteps, last_timesteps;
  std::optional<ReferenceDrafting> drafting;
  std::shared_ptr<std::atomic<bool>> cancelled;
  // Latent pool, one row per pass: the state while the pass runs, then its latent, which later passes refer to.
  std::vector<int32_t> latent_rows;
  // Per guidance row: passes whose keys and values are in the row's blocks.
  std::vector<int64_t> computed_passes;
  int64_t done = 0;  // timesteps, over all passes
  // Without caches, per guidance row: what the decoder's keys and values are made of at every timestep, (tokens, D) f32.
  std::vector<Tensor> conditions;

  int64_t num_rows() const { return guidance_rows(spec); }
  int64_t pass() const { return steps.pass_at(done); }
  bool is_last(int64_t pass) const { return pass == steps.passes - 1; }
  // Whose timesteps the pass has: the few-step decoder's, or the model's own.
  bool by_few_step(int64_t pass) const { return spec.few_step > 0 && (!spec.speculation || is_last(pass)); }
  const TimestepTable& timesteps_of(int64_t pass) const { return is_last(pass) ? *last_timesteps : *timesteps; }
  bool is_cancelled() const { return cancelled->load(std::memory_order_relaxed); }
};

}  // namespace ardiff
