// Judges drafted tokens (docs/speculation.md, A round): one head call at all their states, then a decision for each sequence.
#pragma once

#include <span>
#include <vector>

#include "engine/drafter.h"

namespace ardiff {

struct VerifyRequest {
  const Sequence* sequence = nullptr;  // `emitted` counts the token before the drafts; the target's states are in the hidden pool
  const Drafts* drafts = nullptr;      // at least one
};

struct Judgement {
  int64_t accepted = 0;
  // How the token after the accepted ones begins: SpeculationState::pending_step and pending_state.
  int64_t pending_step = 0;
  std::vector<float> pending_state;
  // With a single jump: the target's own tokens for the accepted positions, (accepted, D) before use_norm; else empty.
  std::vector<float> target_tokens;
  std::vector<double> statistic;  // per draft: relaxed, what is compared with the tolerance; exact, the path gap D
};

class Verification {
 public:
  Verification(Backend& backend, Scratch& scratch, const Conditions& conditions, const RowPool& hidden, int64_t token_size)
      : backend_(backend), scratch_(scratch), conditions_(conditions), hidden_(hidden), token_size_(token_size) {}

  // In the order of the requests, which all have their tokens from `target`. Adds the network evaluations to `evaluations`.
  std::vector<Judgement> judge(std::span<const VerifyRequest> requests, const TokenSampler& target, int64_t& evaluations) const;

 private:
  Judgement decide(const VerifyRequest& request, const float* velocity, const float* next) const;

  Backend& backend_;
  Scratch& scratch_;
  const Conditions& conditions_;
  const RowPool& hidden_;
  int64_t token_size_;
};

}  // namespace ardiff
