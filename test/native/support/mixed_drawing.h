// Pictures of both families drawn so that what an engine works on changes as much as it can: they come and go, wait, share steps,
// speculate and are preempted. What comes out is compared between backends; what the engine did on the way, by the backend.
#pragma once

#include <map>

#include "support/accelerated_class_model.h"
#include "support/class_studio.h"
#include "support/speculation_fixture.h"

namespace ardiff::testing_support {

// One guidance row or two, other prompts, other timesteps; one is preempted, one comes when another has gone.
inline std::map<uint32_t, Tokens> draw_in_turns(Backend& backend, bool with_drafts) {
  NextStepEngine engine(backend, accelerated_model().path(), {.kv_blocks = 151, .max_step_tokens = 512, .accelerator = accelerated_model().accelerator().string()});
  Studio studio(engine, 3, 7);
  std::map<uint32_t, Tokens> out;
  std::vector<SequenceSpec> specs = {plain_picture(1, "a red fox", 11), plain_picture(2, "a blue whale in the sea", 12, 1), plain_picture(3, "two cats", 13, 1, 2)};
  if (with_drafts) {
    specs[1] = speculating(plain_picture(2, "a blue whale in the sea", 12), SpeculationMode::kExact, 3);
    specs[2] = speculating(plain_picture(3, "two cats", 13, 1, 2), SpeculationMode::kRelaxed, 3, 0.5);
    specs[2].speculation->gate.kind = speculation::GateKind::kLogistic;  // never stops, but reads entropies on the way
  }
  studio.begin(std::span(specs).first(2));
  for (int turn = 0; turn < 3; ++turn) studio.decode();
  studio.begin(specs[2]);
  for (int turn = 0; turn < 2; ++turn) studio.decode(2);
  studio.preempt(1, 5);
  while (!studio.is_done()) studio.decode();
  for (const uint32_t id : {1u, 2u, 3u}) out[id] = studio.finish(id).tokens;
  // Rows of pools and blocks are handed out again.
  out[4] = studio.draw(plain_picture(4, "a red fox", 11)).tokens;
  return out;
}

// One after the other, of which one is drawn by the few-step decoder.
inline std::vector<std::vector<float>> draw_classes(Backend& backend, const AcceleratedClassModel& model) {
  TransDiffEngine engine(backend, model.path(), {.kv_blocks = 151, .max_step_tokens = 512, .accelerator = model.accelerator().string()});
  test::ClassStudio studio(engine, 5, 3);
  std::vector<std::vector<float>> latents;
  for (const auto& [id, few_step] : {std::pair{1u, 0}, {2u, 2}, {3u, 0}}) {
    SequenceSpec spec;
    spec.id = id;
    spec.class_label = id;
    spec.grid_height = spec.grid_width = 4;
    spec.seed = 70 + id;
    spec.sampler = {.sampler = Sampler::kMaruyama, .timesteps = 6, .drift_scale = 0.9, .noise_scale = 0.93};
    spec.guidance_scale = 1.3;
    spec.few_step = few_step;
    latents.push_back(studio.solo(spec, 4));
  }
  return latents;
}

}  // namespace ardiff::testing_support
