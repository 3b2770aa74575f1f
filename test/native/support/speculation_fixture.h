// An engine with the accelerated model, on every compiled backend and dtype, and the modes a picture can be drawn in.
#pragma once

#include <gtest/gtest.h>

#include "support/accelerated_model.h"
#include "support/settings.h"
#include "support/statistics.h"
#include "support/studio.h"

namespace ardiff::testing_support {

// Small in CI, more of the same with ARDIFF_LONG_TESTS=1.
inline int repetitions(int small, int many) { return test::long_tests() ? many : small; }

class SpeculationTest : public testing::TestWithParam<Setting> {
 protected:
  SpeculationTest()
      : backend_(make_backend({GetParam().backend, GetParam().dtype, 2})),
        engine_(*backend_, accelerated_model().path(), {.kv_blocks = 151, .max_step_tokens = 512, .accelerator = accelerated_model().accelerator().string()}) {}

  bool is_float32() const { return GetParam().dtype == "float32"; }

  std::unique_ptr<Backend> backend_;
  NextStepEngine engine_;
};

// A picture of mode off. rows: 1 to 3 guidance rows. Odd ids are normalised.
inline SequenceSpec plain_picture(uint32_t id, const std::string& text, uint64_t seed, size_t rows = 2, int64_t few_step = 0) {
  SequenceSpec spec;
  spec.id = id;
  spec.prompt_rows = {prompt_ids(text)};
  if (rows == 3) spec.prompt_rows.push_back(prompt_ids(text.substr(0, text.size() / 2)));
  if (rows >= 2) spec.prompt_rows.push_back(prompt_ids(""));
  spec.grid_height = 3;
  spec.grid_width = 4;
  spec.seed = seed;
  spec.sampler.timesteps = 3;
  spec.guidance_scale = rows == 1 ? 1.0 : 1.5;
  if (rows == 2) spec.guidance_schedule = GuidanceSchedule::kLinear;  // another scale at each token
  spec.image_guidance_scale = rows == 3 ? 1.25 : 1.0;
  spec.use_norm = id % 2 == 1;
  spec.few_step = few_step;
  return spec;
}

inline SequenceSpec speculating(SequenceSpec spec, SpeculationMode mode, int64_t max_drafts, double tolerance = 0, Drafting drafting = Drafting::kSequential) {
  SpeculationSpec& speculation = spec.speculation.emplace();
  speculation.mode = mode;
  speculation.drafting = drafting;
  speculation.max_draft_tokens = max_drafts;
  speculation.tolerance = tolerance;
  speculation.costs = {1.0, 1.0, 0.05, 0.05};
  speculation.acceptance = 0.7;
  speculation.adaptive = false;
  return spec;
}

}  // namespace ardiff::testing_support
