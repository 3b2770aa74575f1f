#include "engine/reference_drafts.h"

#include "speculation/relaxed.h"

namespace ardiff {

ReferencePaths FewStepDrafter::draw(std::span<const ReferenceRequest> requests, const TensorView& latents, int64_t& evaluations) {
  ReferencePaths paths;
  std::vector<PassDraw> draws;
  int64_t rows = 0;
  for (const ReferenceRequest& request : requests) {
    const TimestepTable& jumps = *request.sequence->drafting->jumps;
    const auto count = static_cast<int64_t>(jumps.steps.size());
    draws.push_back({request.sequence, &jumps, request.pass, 0, count, {request.conditions[0]}, static_cast<int32_t>(rows)});
    paths.first.push_back(rows);
    rows += count;
  }
  paths.record = {p_.scratch.take(DType::kF32, {rows, p_.latent_size}), p_.scratch.take(DType::kF32, {rows, p_.latent_size})};
  p_.few_step.sample(draws, latents, p_.few_step_layers, evaluations, &paths.record);
  return paths;
}

std::vector<double> ReferenceVerification::judge(std::span<const ReferenceRequest> requests, const ReferencePaths& paths, int64_t& evaluations) const {
  const Scratch::Frame frame(p_.scratch);
  std::vector<PassPoints> points;
  for (size_t i = 0; i < requests.size(); ++i) {
    const TransDiffSequence& sequence = *requests[i].sequence;
    if (sequence.is_cancelled()) continue;
    points.push_back({&sequence, sequence.drafting->judged.get(), static_cast<int32_t>(paths.first[i]), requests[i].conditions});
  }
  const TensorView& states = paths.record.states;
  const TensorView velocity = p_.scratch.take(DType::kF32, states.shape);
  p_.model.evaluate(points, states, p_.model_layers, velocity, evaluations);

  std::vector<float> model(static_cast<size_t>(states.shape.size())), draft(model.size());
  p_.backend.download(velocity, model.data());
  p_.backend.download(paths.record.velocity, draft.data());
  std::vector<double> statistics;
  for (size_t i = 0; i < requests.size(); ++i) {
    std::vector<double> times;  // of this family t is 1 where there is nothing but noise
    for (const SamplerStep& step : requests[i].sequence->drafting->judged->steps) times.push_back(1.0 - static_cast<double>(step.t));
    const int64_t at = paths.first[i] * p_.latent_size;
    statistics.push_back(speculation::largest_jump_gap(times, p_.latent_size, model.data() + at, draft.data() + at));
  }
  return statistics;
}

}  // namespace ardiff
