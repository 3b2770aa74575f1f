#include "engine/verification.h"

#include <algorithm>

#include "speculation/philox_source.h"
#include "speculation/relaxed.h"
#include "speculation/verify.h"

namespace ardiff {

namespace {

// With a single noiseless step the target's token follows from the verification call itself, so the token after the last
// draft is asked for, too: its state is its initial noise.
bool has_bonus(const VerifyRequest& request) {
  const Sequence& sequence = *request.sequence;
  return sequence.spec.few_step == 1 && sequence.emitted + request.drafts->tokens < sequence.num_tokens();
}

std::vector<speculation::Letter> letters_of(const VerifyRequest& request, const speculation::DraftChain& chain) {
  return request.sequence->spec.few_step > 0 ? std::vector<speculation::Letter>() : speculation::letters_of(chain);
}

}  // namespace

std::vector<Judgement> Verification::judge(std::span<const VerifyRequest> requests, const TokenSampler& target, int64_t& evaluations) const {
  const Scratch::Frame frame(scratch_);
  std::vector<PathPoints> paths;
  std::vector<int32_t> hidden_rows, numbers, noise_rows;
  std::vector<TokenDraw> bonus;
  std::vector<float> states;
  std::vector<int32_t> begin;  // first state of each request
  for (const VerifyRequest& request : requests) {
    const Sequence& sequence = *request.sequence;
    const auto steps = static_cast<int64_t>(sequence.timesteps->steps.size());
    begin.push_back(static_cast<int32_t>(states.size() / static_cast<size_t>(token_size_)));
    const int64_t count = request.drafts->tokens + (has_bonus(request) ? 1 : 0);
    for (int64_t j = 0; j < count; ++j) {
      const int64_t token = sequence.emitted + j;
      paths.push_back({&sequence, sequence.timesteps.get(), token, static_cast<int32_t>(hidden_rows.size()), static_cast<int32_t>(sequence.rows.size()),
                       begin.back() + static_cast<int32_t>(j * steps)});
      for (size_t r = 0; r < sequence.rows.size(); ++r) {
        hidden_rows.push_back(sequence.hidden_row(r, sequence.known_positions(r) - 1 + j));
        numbers.push_back(static_cast<int32_t>(token));
      }
    }
    states.insert(states.end(), request.drafts->states.begin(), request.drafts->states.end());
    if (!has_bonus(request)) continue;
    const int64_t token = sequence.emitted + request.drafts->tokens;
    bonus.push_back({&sequence, sequence.timesteps.get(), token, sequence.attempt(token)});
    noise_rows.push_back(static_cast<int32_t>(states.size() / static_cast<size_t>(token_size_)));
    states.resize(states.size() + static_cast<size_t>(token_size_));
  }
  const auto count = static_cast<int64_t>(states.size()) / token_size_;
  const TensorView x = scratch_.take(DType::kF32, {count, token_size_}), velocity = scratch_.take(DType::kF32, {count, token_size_});
  const TensorView next = scratch_.take(DType::kF32, {count, token_size_});
  backend_.upload(x, states.data());
  if (!bonus.empty()) {
    const TensorView noise = scratch_.take(DType::kF32, {static_cast<int64_t>(bonus.size()), token_size_});
    target.initial_noise(bonus, noise);
    backend_.scatter_rows(noise, scratch_.index(noise_rows), x);
  }
  const TensorView hidden = scratch_.take(DType::kF32, {static_cast<int64_t>(hidden_rows.size()), hidden_.view().cols()});
  backend_.gather_rows(hidden_.view(), scratch_.index(hidden_rows), hidden);
  const TensorView condition = conditions_.embed(hidden, numbers, target.head());
  evaluations += target.evaluate(paths, condition, x, velocity, next);

  std::vector<float> host_velocity(states.size()), host_next(states.size());
  backend_.download(velocity, host_velocity.data());
  backend_.download(next, host_next.data());
  std::vector<Judgement> out;
  for (size_t i = 0; i < requests.size(); ++i) {
    const auto at = static_cast<size_t>(begin[i]) * static_cast<size_t>(token_size_);
    out.push_back(decide(requests[i], host_velocity.data() + at, host_next.data() + at));
  }
  return out;
}

Judgement Verification::decide(const VerifyRequest& request, const float* velocity, const float* next) const {
  const Sequence& sequence = *request.sequence;
  const SpeculationSpec& spec = *sequence.spec.speculation;
  const Drafts& drafts = *request.drafts;
  const std::vector<SamplerStep>& steps = sequence.timesteps->steps;
  const auto k = static_cast<int64_t>(steps.size()), d = token_size_;
  speculation::DraftChain chain;
  chain.steps = steps;
  chain.tokens = drafts.tokens;
  chain.width = d;
  chain.states = drafts.states.data();
  chain.noise = drafts.noise.data();
  chain.draft_velocity = drafts.velocity.data();
  chain.target_velocity = velocity;
  const std::vector<speculation::Letter> letters = letters_of(request, chain);

  std::vector<double> times;
  times.reserve(steps.size());
  for (const SamplerStep& step : steps) times.push_back(static_cast<double>(step.t));
  Judgement out;
  for (int64_t j = 0; j < drafts.tokens; ++j) {
    if (!letters.empty()) {
      out.statistic.push_back(speculation::path_gap(std::span(letters).subspan(static_cast<size_t>(j * k), static_cast<size_t>(k))));
      continue;
    }
    out.statistic.push_back(speculation::largest_jump_gap(times, d, velocity + j * k * d, drafts.velocity.data() + j * k * d));
  }

  if (spec.mode == SpeculationMode::kExact) {
    std::vector<uint32_t> attempts;
    for (int64_t j = 0; j < drafts.tokens; ++j) attempts.push_back(sequence.attempt(sequence.emitted + j));
    speculation::PhiloxSource random(sequence.spec.seed, sequence.emitted, std::move(attempts));
    speculation::Verdict verdict = speculation::verify(speculation::Verifier::kChain, chain, random);
    out.accepted = verdict.accepted_tokens;
    out.pending_step = verdict.next_step;
    out.pending_state = std::move(verdict.state);
    return out;
  }
  out.accepted = speculation::accepted_prefix(out.statistic, spec.tolerance);
  if (sequence.spec.few_step == 1) out.target_tokens.assign(next, next + out.accepted * d);
  if (sequence.spec.few_step == 1 && (out.accepted < drafts.tokens || has_bonus(request))) {
    out.pending_step = 1;
    out.pending_state.assign(next + out.accepted * d, next + (out.accepted + 1) * d);
  }
  return out;
}

}  // namespace ardiff
