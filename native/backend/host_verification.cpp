#include "backend/host_verification.h"

#include <algorithm>

#include "speculation/philox_source.h"
#include "speculation/relaxed.h"
#include "speculation/verify.h"

namespace ardiff {

namespace {

using Words = DraftedSequences;

template <typename T>
const T* read(const TensorView& view, int64_t at = 0) {
  return view ? reinterpret_cast<const T*>(view.data) + at : nullptr;
}
template <typename T>
T* write(const TensorView& view, int64_t at = 0) {
  return reinterpret_cast<T*>(view.data) + at;
}

// One sequence of the batch.
struct Task {
  const int32_t* words;
  double tolerance;
  const uint32_t* attempts;
  speculation::DraftChain chain;
  const float* next;
  double* statistic;
  int32_t* outcome;
  float* pending;
};

Task task_of(const DraftedPaths& paths, const DraftedSequences& sequences, const Verdicts& verdicts, int64_t i) {
  const int32_t* words = read<int32_t>(sequences.words, i * Words::kWords);
  const int64_t width = paths.target_velocity.cols(), at = words[Words::kFirstRow] * width;
  static_assert(sizeof(SamplerStep) == 4 * sizeof(float));
  const auto* steps = read<SamplerStep>(sequences.steps, words[Words::kFirstStep]);
  speculation::DraftChain chain;
  chain.steps = {steps, static_cast<size_t>(words[Words::kSteps])};
  chain.tokens = words[Words::kDrafts];
  chain.width = width;
  chain.states = read<float>(paths.states, at);
  chain.noise = read<float>(paths.noise, at);
  chain.draft_velocity = read<float>(paths.draft_velocity, at);
  chain.target_velocity = read<float>(paths.target_velocity, at);
  return {words,
          *read<double>(sequences.tolerance, i),
          read<uint32_t>(sequences.attempts, words[Words::kFirstDraft]),
          chain,
          read<float>(paths.next, at),
          write<double>(verdicts.statistic, words[Words::kFirstDraft]),
          write<int32_t>(verdicts.outcome, 2 * i),
          write<float>(verdicts.pending, words[Words::kPending] * width)};
}

void path_gaps(const Task& task) {
  const std::vector<speculation::Letter> letters = speculation::letters_of(task.chain);
  const size_t steps = task.chain.steps.size();
  for (int64_t j = 0; j < task.chain.tokens; ++j) {
    task.statistic[j] = speculation::path_gap(std::span(letters).subspan(static_cast<size_t>(j) * steps, steps));
  }
}

void jump_gaps(const Task& task) {
  std::vector<double> times;
  for (const SamplerStep& step : task.chain.steps) times.push_back(static_cast<double>(step.t));
  const int64_t size = static_cast<int64_t>(times.size()) * task.chain.width;
  for (int64_t j = 0; j < task.chain.tokens; ++j) {
    task.statistic[j] =
        speculation::largest_jump_gap(times, task.chain.width, task.chain.target_velocity + j * size, task.chain.draft_velocity + j * size);
  }
}

void judge_exactly(const Task& task) {
  const auto word = [&](Words::Word which) { return static_cast<uint32_t>(task.words[which]); };
  speculation::PhiloxSource random(uint64_t{word(Words::kSeedHigh)} << 32 | word(Words::kSeedLow), task.words[Words::kImageToken],
                                   {task.attempts, task.attempts + task.chain.tokens});
  const speculation::Verdict verdict = speculation::verify(speculation::Verifier::kChain, task.chain, random);
  task.outcome[0] = static_cast<int32_t>(verdict.accepted_tokens);
  task.outcome[1] = static_cast<int32_t>(verdict.next_step);
  std::copy(verdict.state.begin(), verdict.state.end(), task.pending);
}

void judge_by_tolerance(const Task& task) {
  const int64_t accepted = speculation::accepted_prefix({task.statistic, static_cast<size_t>(task.chain.tokens)}, task.tolerance);
  const bool finished = task.words[Words::kFinished] > accepted;
  task.outcome[0] = static_cast<int32_t>(accepted);
  task.outcome[1] = finished ? 1 : 0;
  if (finished) std::copy_n(task.next + accepted * task.chain.width, task.chain.width, task.pending);
}

}  // namespace

void verify_on_host(const DraftedPaths& paths, const DraftedSequences& sequences, const Verdicts& verdicts) {
  for (int64_t i = 0; i < sequences.words.rows(); ++i) {
    const Task task = task_of(paths, sequences, verdicts, i);
    const auto judge = static_cast<Judge>(task.words[Words::kJudge]);
    judge == Judge::kJump ? jump_gaps(task) : path_gaps(task);
    judge == Judge::kChain ? judge_exactly(task) : judge_by_tolerance(task);
  }
}

}  // namespace ardiff
