#include "engine/verification.h"

#include <algorithm>
#include <array>

#include "speculation/gap.h"

namespace ardiff {

namespace {

Judge judge_of(const SequenceSpec& spec) {
  if (spec.speculation->mode == SpeculationMode::kExact) return Judge::kChain;
  return spec.few_step > 0 ? Judge::kJump : Judge::kGap;
}

bool is_single_jump(const VerifyRequest& request) { return request.sequence->spec.few_step == 1; }

}  // namespace

Verification::Verdict Verification::judge(std::vector<VerifyRequest> requests, const TokenSampler& target, int64_t& evaluations) const {
  Verdict out;
  const auto count = static_cast<int64_t>(requests.size());
  int64_t drafts = 0;
  for (const VerifyRequest& request : requests) drafts += request.drafts;
  out.outcome = scratch_.take(DType::kI32, {count, 2});
  out.statistic = scratch_.take(DType::kF64, {drafts});
  out.accepted_and_step.resize(static_cast<size_t>(2 * count));
  out.statistics.resize(static_cast<size_t>(drafts));

  const Scratch::Frame frame(scratch_);
  evaluate(requests, target, evaluations);
  const PathRecord record = paths_.record();
  const TensorView next = std::any_of(requests.begin(), requests.end(), is_single_jump) ? paths_.next() : TensorView();
  backend_.verify_drafts({record.states, record.noise, record.velocity, paths_.target_velocity(), next}, describe(requests),
                         {out.outcome, out.statistic, tokens_.view()});
  out.requests = std::move(requests);
  return out;
}

// The target's velocity at every state, and with a single jump the state that it leads to.
void Verification::evaluate(std::span<const VerifyRequest> requests, const TokenSampler& target, int64_t& evaluations) const {
  std::vector<PathPoints> points;
  std::vector<int32_t> hidden_rows, numbers, noise_rows;
  std::vector<TokenDraw> bonus;
  bool any_single_jump = false;
  for (const VerifyRequest& request : requests) {
    const Sequence& sequence = *request.sequence;
    any_single_jump = any_single_jump || is_single_jump(request);
    for (int64_t j = 0; j < request.drafts + (request.has_bonus() ? 1 : 0); ++j) {
      const int64_t token = sequence.emitted + j;
      const int32_t row = request.first_row + static_cast<int32_t>(j * request.steps());
      points.push_back({&sequence, sequence.timesteps.get(), token, static_cast<int32_t>(hidden_rows.size()), static_cast<int32_t>(sequence.rows.size()), row});
      for (size_t r = 0; r < sequence.rows.size(); ++r) {
        hidden_rows.push_back(sequence.hidden_row(r, sequence.known_positions(r) - 1 + j));
        numbers.push_back(static_cast<int32_t>(token));
      }
      if (j < request.drafts) continue;
      bonus.push_back({&sequence, sequence.timesteps.get(), token, sequence.attempt(token)});
      noise_rows.push_back(row);
    }
  }
  const TensorView& states = paths_.record().states;
  if (!bonus.empty()) {
    const TensorView noise = scratch_.take(DType::kF32, {static_cast<int64_t>(bonus.size()), states.cols()});
    target.initial_noise(bonus, noise);
    backend_.scatter_rows(noise, scratch_.index(noise_rows), states);
  }
  const TensorView hidden = scratch_.take(DType::kF32, {static_cast<int64_t>(hidden_rows.size()), hidden_.view().cols()});
  backend_.gather_rows(hidden_.view(), scratch_.index(hidden_rows), hidden);
  const TensorView condition = conditions_.embed(hidden, numbers, target.head());
  evaluations += target.evaluate(points, condition, states, paths_.target_velocity(), any_single_jump ? paths_.next() : TensorView());
}

// The requests as verify_drafts reads them.
DraftedSequences Verification::describe(std::span<const VerifyRequest> requests) const {
  std::vector<int32_t> words, attempts;
  std::vector<double> tolerance;
  std::vector<SamplerStep> steps;
  for (const VerifyRequest& request : requests) {
    const Sequence& sequence = *request.sequence;
    const SpeculationSpec& spec = *sequence.spec.speculation;
    const Judge judge = judge_of(sequence.spec);
    check(judge == Judge::kJump || speculation::is_gaussian(sequence.timesteps->steps), ErrorCode::kInvalidArgument,
          "a sampler with a step without noise cannot be verified exactly");
    std::array<int32_t, DraftedSequences::kWords> own{};
    own[DraftedSequences::kFirstRow] = request.first_row;
    own[DraftedSequences::kDrafts] = static_cast<int32_t>(request.drafts);
    own[DraftedSequences::kSteps] = static_cast<int32_t>(request.steps());
    own[DraftedSequences::kFirstStep] = static_cast<int32_t>(steps.size());
    own[DraftedSequences::kJudge] = static_cast<int32_t>(judge);
    own[DraftedSequences::kFirstDraft] = static_cast<int32_t>(attempts.size());
    own[DraftedSequences::kPending] = sequence.pending_row[0];
    own[DraftedSequences::kFinished] = is_single_jump(request) ? static_cast<int32_t>(request.drafts + (request.has_bonus() ? 1 : 0)) : 0;
    own[DraftedSequences::kSeedLow] = static_cast<int32_t>(static_cast<uint32_t>(sequence.spec.seed));
    own[DraftedSequences::kSeedHigh] = static_cast<int32_t>(static_cast<uint32_t>(sequence.spec.seed >> 32));
    own[DraftedSequences::kImageToken] = static_cast<int32_t>(sequence.emitted);
    words.insert(words.end(), own.begin(), own.end());
    tolerance.push_back(spec.tolerance);
    steps.insert(steps.end(), sequence.timesteps->steps.begin(), sequence.timesteps->steps.end());
    for (int64_t j = 0; j < request.drafts; ++j) attempts.push_back(static_cast<int32_t>(sequence.attempt(sequence.emitted + j)));
  }
  const auto count = static_cast<int64_t>(requests.size());
  DraftedSequences out;
  out.words = scratch_.index(words).reshape({count, DraftedSequences::kWords});
  out.tolerance = scratch_.take(DType::kF64, {count});
  out.attempts = scratch_.index(attempts);
  out.steps = scratch_.take(DType::kF32, {static_cast<int64_t>(steps.size()), 4});
  backend_.upload(out.tolerance, tolerance.data());
  backend_.upload(out.steps, steps.data());
  return out;
}

std::vector<Judgement> Verification::Verdict::read() const {
  std::vector<Judgement> out;
  auto at = statistics.begin();
  for (size_t i = 0; i < requests.size(); ++i) {
    const auto end = at + requests[i].drafts;
    out.push_back({accepted_and_step[2 * i], accepted_and_step[2 * i + 1], {at, end}});
    at = end;
  }
  return out;
}

}  // namespace ardiff
