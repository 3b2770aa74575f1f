// How many tokens a round drafts: the γ with the most tokens per cost, from the sequence's own acceptance and stored
// costs (docs/speculation.md, Draft length). No clock and no neighbour enters, so the choice is the same in every batch.
#pragma once

#include <cstdint>

namespace ardiff::speculation {

// In units of one vanilla token. A round of γ > 0 drafts costs round + γ (draft + verify), a plain step `plain`.
struct SpeculationCosts {
  double plain = 1;
  double round = 0;
  double draft = 0;
  double verify = 0;
};

// What a sequence remembers; plain data. Counts are discounted by 0.95 per later test.
struct AcceptanceHistory {
  double accepted = 0;
  double tested = 0;
  int64_t plain_tokens = 0;  // drawn without a draft since the last round
};

// A round of `drafted` tokens of which the first `accepted` stayed: those were tested, and the first that did not.
// A round whose gate stopped before the first draft gave one token for the price of a round: it counts as a test that failed.
void observe_round(AcceptanceHistory& history, int64_t drafted, int64_t accepted);
// `tokens` tokens by plain steps.
void observe_plain(AcceptanceHistory& history, int64_t tokens);

// Probability that a draft is accepted once those before it were: (8 prior + accepted) / (8 + tested).
double acceptance_rate(const AcceptanceHistory& history, double prior);

// 1 + α + … + α^γ: tokens of a round.
double expected_tokens(double acceptance, int64_t drafts);
// Cost of a step with that many drafts.
double step_cost(const SpeculationCosts& costs, int64_t drafts);

// γ in [0, max_drafts] with the most expected tokens per cost; 0 unless a round is cheaper per token than a plain step.
int64_t best_draft_length(const SpeculationCosts& costs, double acceptance, int64_t max_drafts);

// best_draft_length for the history's acceptance. Where that is 0 it is 1 now and then, so that a sequence whose drafts
// have become good is found out: seldom enough that all such probes together cost at most 1 % of plain drawing, what the
// draft model then has to catch up on included; and not at all where even perfect drafts would not pay, or where catching
// up alone would cost more than that.
int64_t choose_draft_length(const SpeculationCosts& costs, double prior, const AcceptanceHistory& history, int64_t max_drafts);

}  // namespace ardiff::speculation
