// Checks of a step plan for a TransDiff model (docs/transdiff.md, A step), before anything changes. Entries of a sequence whose
// cancel flag is set may count on what was not drawn any more: the engine leaves them out.
#pragma once

#include <unordered_map>

#include "engine/step_plan.h"
#include "engine/transdiff_sequence.h"
#include "model/transdiff_config.h"

namespace ardiff {

// Timesteps of one sequence in one step: a step must be over soon enough for whoever waits for the next.
inline constexpr int64_t kMaxStepTimesteps = 8;

using TransDiffSequences = std::unordered_map<uint32_t, TransDiffSequence>;

struct TransDiffLimits {
  int64_t num_blocks;
  int64_t max_step_tokens;
  bool has_vae;
  bool has_few_step;  // a few-step decoder is loaded
};

// Throws kInvalidPlan (contradicts the state) or kInvalidArgument (a value out of range).
void check_transdiff_plan(const StepPlan& plan, const TransDiffSequences& sequences, const TransDiffConfig& config, const TransDiffLimits& limits);

// The pass whose block ends before `position`, plus one: position 0 is pass 0, that after block i of the condition pass i + 1.
// -1 where no pass begins or ends there.
int64_t pass_at(const TransDiffConfig& config, int64_t position);

}  // namespace ardiff
