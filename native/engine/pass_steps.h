// How many timesteps each pass of a picture has, and where it stands after so many over all passes. Pure.
#pragma once

#include <algorithm>
#include <cstdint>

#include "engine/step_plan.h"

namespace ardiff {

// All passes alike, but the last one: where references are drafted for a picture of few steps, those that are not accepted
// are drawn by the model's own decoder at all timesteps, and the picture by the few-step decoder.
struct PassSteps {
  int64_t passes;
  int64_t each;
  int64_t last;

  int64_t total() const { return (passes - 1) * each + last; }
  // The pass whose timesteps come next; the last one of a finished picture.
  int64_t pass_at(int64_t done) const { return std::min(done / each, passes - 1); }
  int64_t begin_of(int64_t pass) const { return pass * each; }
  int64_t of(int64_t pass) const { return pass == passes - 1 ? last : each; }
  // How many passes end with so many timesteps; -1 where none does.
  int64_t ended_by(int64_t done) const {
    if (done == total()) return passes;
    return done > 0 && done % each == 0 && done / each < passes ? done / each : -1;
  }
};

inline PassSteps pass_steps(const SequenceSpec& spec, int64_t passes) {
  if (spec.few_step == 0) return {passes, spec.sampler.timesteps, spec.sampler.timesteps};
  return {passes, spec.speculation ? spec.sampler.timesteps : spec.few_step, spec.few_step};
}

// Guidance applies above 1 only (transdiff.md 6.3): the class, then no class. The few-step decoder has guidance in its weights;
// verification of its drafts has not.
inline int64_t guidance_rows(const SequenceSpec& spec) { return spec.guidance_scale > 1.0 && (spec.few_step == 0 || spec.speculation) ? 2 : 1; }

}  // namespace ardiff
