// Checks of a step plan against the engine's state, before anything changes. A plan that passes cannot make the
// engine read or write outside its buffers; what it may still get wrong is whose blocks it names.
#pragma once

#include <unordered_map>

#include "engine/sequence.h"
#include "engine/step_plan.h"

namespace ardiff {

using SequenceMap = std::unordered_map<uint32_t, Sequence>;

struct PlanLimits {
  int64_t num_blocks;
  int64_t max_step_tokens;
  int64_t max_positions;
  int64_t vocab_size;
  int64_t token_size;
  int32_t boi_token_id;
  int32_t image_placeholder_id;
  AcceleratorInfo accelerator;
};

// Throws kInvalidPlan (contradicts the state) or kInvalidArgument (a value out of range).
void check_plan(const StepPlan& plan, const SequenceMap& sequences, const PlanLimits& limits);

}  // namespace ardiff
