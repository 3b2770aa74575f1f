// Judges drafted tokens (docs/speculation.md, A round): one head call at all their states, then the op that decides, for all
// sequences at once. Nothing here waits for the backend; whoever wants the outcome downloads it.
#pragma once

#include <span>
#include <vector>

#include "engine/draft_paths.h"
#include "engine/drafter.h"

namespace ardiff {

struct VerifyRequest {
  const Sequence* sequence = nullptr;  // `emitted` counts the token before the drafts; the target's states are in the hidden pool
  int64_t drafts = 0;                  // at least one
  int32_t first_row = 0;               // of the paths

  // With a single noiseless step the target's token follows from the verification call itself, so the token after the last
  // draft is asked for, too: its state is its initial noise.
  bool has_bonus() const { return sequence->spec.few_step == 1 && sequence->emitted + drafts < sequence->num_tokens(); }
  int64_t steps() const { return static_cast<int64_t>(sequence->timesteps->steps.size()); }
  // Rows of the paths that `drafts` drafts take at most, its bonus included.
  static int64_t path_rows(const Sequence& sequence, int64_t drafts) {
    return drafts * static_cast<int64_t>(sequence.timesteps->steps.size()) + (sequence.spec.few_step == 1 ? 1 : 0);
  }
};

struct Judgement {
  int64_t accepted = 0;
  int64_t pending_step = 0;       // of the token after the accepted ones; its state is in the sequence's pending row
  std::vector<double> statistic;  // per draft: relaxed, what is compared with the tolerance; exact, the path gap D
};

class Verification {
 public:
  // `tokens` has the pending rows.
  Verification(Backend& backend, Scratch& scratch, const Conditions& conditions, const RowPool& hidden, const RowPool& tokens, const DraftPaths& paths)
      : backend_(backend), scratch_(scratch), conditions_(conditions), hidden_(hidden), tokens_(tokens), paths_(paths) {}

  // What a call came to, on its way: views into the scratch until the caller's frame ends, and where they go.
  struct Verdict {
    std::vector<VerifyRequest> requests;
    TensorView outcome, statistic;  // ops.h, Verdicts
    std::vector<int32_t> accepted_and_step;
    std::vector<double> statistics;

    std::vector<Download> downloads() { return {{outcome, accepted_and_step.data()}, {statistic, statistics.data()}}; }
    // After the download, in the order of the requests.
    std::vector<Judgement> read() const;
  };

  // Of requests which all have their tokens from `target`, their paths in DraftPaths. Adds the network evaluations to `evaluations`.
  Verdict judge(std::vector<VerifyRequest> requests, const TokenSampler& target, int64_t& evaluations) const;

 private:
  void evaluate(std::span<const VerifyRequest> requests, const TokenSampler& target, int64_t& evaluations) const;
  DraftedSequences describe(std::span<const VerifyRequest> requests) const;

  Backend& backend_;
  Scratch& scratch_;
  const Conditions& conditions_;
  const RowPool& hidden_;
  const RowPool& tokens_;
  const DraftPaths& paths_;
};

}  // namespace ardiff
