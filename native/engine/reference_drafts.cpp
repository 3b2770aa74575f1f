#include "engine/reference_drafts.h"

#include <array>

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

  const auto count = static_cast<int64_t>(requests.size());
  const TensorView outcome = p_.scratch.take(DType::kI32, {count, 2}), statistic = p_.scratch.take(DType::kF64, {count});
  const TensorView nowhere(nullptr, DType::kF32, {0, p_.latent_size});  // no state goes on from a jump's verdict
  p_.backend.verify_drafts({{}, {}, paths.record.velocity, velocity, {}}, describe(requests, paths), {outcome, statistic, nowhere});
  std::vector<double> statistics(requests.size());
  p_.backend.download(statistic, statistics.data());
  return statistics;
}

// A draft each, judged by its jumps.
DraftedSequences ReferenceVerification::describe(std::span<const ReferenceRequest> requests, const ReferencePaths& paths) const {
  std::vector<int32_t> words;
  std::vector<double> tolerance;
  std::vector<SamplerStep> steps;
  for (size_t i = 0; i < requests.size(); ++i) {
    const std::vector<SamplerStep>& jumps = requests[i].sequence->drafting->judged->steps;
    std::array<int32_t, DraftedSequences::kWords> own{};
    own[DraftedSequences::kFirstRow] = static_cast<int32_t>(paths.first[i]);
    own[DraftedSequences::kDrafts] = 1;
    own[DraftedSequences::kSteps] = static_cast<int32_t>(jumps.size());
    own[DraftedSequences::kFirstStep] = static_cast<int32_t>(steps.size());
    own[DraftedSequences::kJudge] = static_cast<int32_t>(Judge::kJump);
    own[DraftedSequences::kFirstDraft] = static_cast<int32_t>(i);
    words.insert(words.end(), own.begin(), own.end());
    tolerance.push_back(requests[i].sequence->spec.speculation->tolerance);
    // Of this family t is 1 where there is nothing but noise; of 1, 2 or 4 jumps 1 - t is a float32, too.
    for (const SamplerStep& jump : jumps) steps.push_back({1.0f - jump.t, jump.a, jump.b, jump.gamma});
  }
  const auto count = static_cast<int64_t>(requests.size());
  DraftedSequences out;
  out.words = p_.scratch.index(words).reshape({count, DraftedSequences::kWords});
  out.tolerance = p_.scratch.take(DType::kF64, {count});
  out.attempts = p_.scratch.index(std::vector<int32_t>(requests.size(), 0));
  out.steps = p_.scratch.take(DType::kF32, {static_cast<int64_t>(steps.size()), 4});
  p_.backend.upload(out.tolerance, tolerance.data());
  p_.backend.upload(out.steps, steps.data());
  return out;
}

}  // namespace ardiff
