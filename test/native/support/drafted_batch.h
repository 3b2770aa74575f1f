// Sequences with drafted paths, to be judged together or apart: what tests of verify_drafts hand to a backend.
#pragma once

#include <cstring>
#include <vector>

#include "backend/backend.h"
#include "model/noise_schedule.h"

namespace ardiff::test {

// One sequence. Rows token * K + step.
struct DraftedCase {
  Judge judge = Judge::kChain;
  std::vector<SamplerStep> steps;
  int64_t drafts = 1;
  std::vector<float> states, noise, draft_velocity, target_velocity, next;
  int64_t finished = 0;
  uint64_t seed = 0;
  int64_t image_token = 0;
  std::vector<uint32_t> attempts;
  double tolerance = 0;

  int64_t rows() const { return drafts * static_cast<int64_t>(steps.size()) + (finished > drafts ? 1 : 0); }
};

// What the op says of one.
struct CaseVerdict {
  int32_t accepted, next_step;
  std::vector<double> statistic;
  std::vector<float> pending;  // as it was before where nothing is written

  bool operator==(const CaseVerdict&) const = default;
};

// Bit for bit, so that two that are not numbers are equal.
inline bool same_bits(const CaseVerdict& a, const CaseVerdict& b) {
  return a.accepted == b.accepted && a.next_step == b.next_step && a.statistic.size() == b.statistic.size() && a.pending.size() == b.pending.size() &&
         std::memcmp(a.statistic.data(), b.statistic.data(), a.statistic.size() * sizeof(double)) == 0 &&
         std::memcmp(a.pending.data(), b.pending.data(), a.pending.size() * sizeof(float)) == 0;
}

// Judges all of one width in one call. `gap` rows lie unused before, between and behind them; what nobody may read is `filler`.
inline std::vector<CaseVerdict> judge_together(Backend& backend, const std::vector<const DraftedCase*>& cases, int64_t width, int64_t gap = 0,
                                               float filler = 0.0f) {
  int64_t rows = gap;
  std::vector<int64_t> first;
  for (const DraftedCase* one : cases) {
    first.push_back(rows);
    rows += one->rows() + gap;
  }
  const auto count = static_cast<int64_t>(cases.size());
  const auto gathered = [&](std::vector<float> DraftedCase::* member) {
    std::vector<float> values(static_cast<size_t>(rows * width), filler);
    for (size_t i = 0; i < cases.size(); ++i) std::copy((cases[i]->*member).begin(), (cases[i]->*member).end(), values.begin() + first[i] * width);
    Tensor out = backend.make(DType::kF32, {rows, width});
    backend.upload(out, values.data());
    return out;
  };
  const Tensor states = gathered(&DraftedCase::states), noise = gathered(&DraftedCase::noise), next = gathered(&DraftedCase::next);
  const Tensor draft = gathered(&DraftedCase::draft_velocity), target = gathered(&DraftedCase::target_velocity);
  std::vector<int32_t> words, attempts;
  std::vector<double> tolerance;
  std::vector<SamplerStep> steps;
  for (size_t i = 0; i < cases.size(); ++i) {
    const DraftedCase& one = *cases[i];
    using Words = DraftedSequences;
    std::vector<int32_t> own(Words::kWords);
    own[Words::kFirstRow] = static_cast<int32_t>(first[i]);
    own[Words::kDrafts] = static_cast<int32_t>(one.drafts);
    own[Words::kSteps] = static_cast<int32_t>(one.steps.size());
    own[Words::kFirstStep] = static_cast<int32_t>(steps.size());
    own[Words::kJudge] = static_cast<int32_t>(one.judge);
    own[Words::kFirstDraft] = static_cast<int32_t>(attempts.size());
    own[Words::kPending] = static_cast<int32_t>(count - 1 - static_cast<int64_t>(i));  // another order than the sequences'
    own[Words::kFinished] = static_cast<int32_t>(one.finished);
    own[Words::kSeedLow] = static_cast<int32_t>(static_cast<uint32_t>(one.seed));
    own[Words::kSeedHigh] = static_cast<int32_t>(static_cast<uint32_t>(one.seed >> 32));
    own[Words::kImageToken] = static_cast<int32_t>(one.image_token);
    words.insert(words.end(), own.begin(), own.end());
    tolerance.push_back(one.tolerance);
    steps.insert(steps.end(), one.steps.begin(), one.steps.end());
    for (const uint32_t attempt : one.attempts) attempts.push_back(static_cast<int32_t>(attempt));
  }
  const auto put = [&](DType dtype, const Shape& shape, const void* values) {
    Tensor out = backend.make(dtype, shape);
    backend.upload(out, values);
    return out;
  };
  const auto drafts = static_cast<int64_t>(attempts.size());
  const Tensor word_view = put(DType::kI32, {count, DraftedSequences::kWords}, words.data()), tolerances = put(DType::kF64, {count}, tolerance.data());
  const Tensor attempt_view = put(DType::kI32, {drafts}, attempts.data()), step_view = put(DType::kF32, {static_cast<int64_t>(steps.size()), 4}, steps.data());
  std::vector<float> pending(static_cast<size_t>(count * width), -77.0f);
  const Tensor pending_view = put(DType::kF32, {count, width}, pending.data());
  const Tensor outcome = backend.make(DType::kI32, {count, 2}), statistic = backend.make(DType::kF64, {drafts});
  backend.verify_drafts({states, noise, draft, target, next}, {word_view, tolerances, attempt_view, step_view}, {outcome, statistic, pending_view});

  std::vector<int32_t> outcomes(static_cast<size_t>(2 * count));
  std::vector<double> statistics(static_cast<size_t>(drafts));
  const Download parts[] = {{outcome, outcomes.data()}, {statistic, statistics.data()}, {pending_view, pending.data()}};
  backend.download_all(parts);
  std::vector<CaseVerdict> out;
  auto at = statistics.begin();
  for (size_t i = 0; i < cases.size(); ++i) {
    const auto row = pending.begin() + static_cast<std::ptrdiff_t>((cases.size() - 1 - i) * static_cast<size_t>(width));
    out.push_back({outcomes[2 * i], outcomes[2 * i + 1], {at, at + cases[i]->drafts}, {row, row + width}});
    at += cases[i]->drafts;
  }
  return out;
}

}  // namespace ardiff::test
