#include "speculation/draft_length.h"

#include <algorithm>
#include <cmath>

namespace ardiff::speculation {

namespace {

constexpr double kForgetting = 0.95;  // per test
constexpr double kPriorTests = 8.0;   // what the calibrated acceptance weighs

// Probes of drafts that do not pay: their whole cost at most this share of plain drawing, and never closer than this.
constexpr double kProbeShare = 0.01;
constexpr double kProbeSpacing = 16.0;

// Before a draft the draft model reads every position since the last one. A row of that in units of a whole draft: rows
// share the reading of the weights and need no head. A round figure, on the careful side; calibration does not measure it.
constexpr double kCatchUp = 1.0 / 8.0;

void observe(AcceptanceHistory& history, bool accepted) {
  history.accepted = kForgetting * history.accepted + (accepted ? 1.0 : 0.0);
  history.tested = kForgetting * history.tested + 1.0;
}

}  // namespace

void observe_round(AcceptanceHistory& history, int64_t drafted, int64_t accepted) {
  for (int64_t i = 0; i < accepted; ++i) observe(history, true);
  if (accepted < drafted || drafted == 0) observe(history, false);
  history.plain_tokens = 0;
}

void observe_plain(AcceptanceHistory& history, int64_t tokens) { history.plain_tokens += tokens; }

double acceptance_rate(const AcceptanceHistory& history, double prior) {
  return (kPriorTests * prior + history.accepted) / (kPriorTests + history.tested);
}

double expected_tokens(double acceptance, int64_t drafts) {
  double tokens = 1.0, reached = 1.0;
  for (int64_t j = 0; j < drafts; ++j) tokens += reached *= acceptance;
  return tokens;
}

double step_cost(const SpeculationCosts& costs, int64_t drafts) {
  return drafts == 0 ? costs.plain : costs.round + static_cast<double>(drafts) * (costs.draft + costs.verify);
}

// One more draft brings α^(γ+1) tokens, less each time, for the same cost each time: tokens per cost rise up to the
// best γ and fall from there on. So the first γ that the next does not improve on is the best.
int64_t best_draft_length(const SpeculationCosts& costs, double acceptance, int64_t max_drafts) {
  const double marginal_cost = costs.draft + costs.verify;
  if (max_drafts <= 0) return 0;
  int64_t drafts = 1;
  double gain = acceptance * acceptance;
  while (drafts < max_drafts && gain * step_cost(costs, drafts) > marginal_cost * expected_tokens(acceptance, drafts)) {
    ++drafts;
    gain *= acceptance;
  }
  return expected_tokens(acceptance, drafts) * costs.plain > step_cost(costs, drafts) ? drafts : 0;
}

int64_t choose_draft_length(const SpeculationCosts& costs, double prior, const AcceptanceHistory& history, int64_t max_drafts) {
  const int64_t drafts = best_draft_length(costs, acceptance_rate(history, prior), max_drafts);
  if (drafts > 0) return drafts;
  const bool can_pay = best_draft_length(costs, 1.0, max_drafts) > 0;
  const auto waited = static_cast<double>(history.plain_tokens);
  const double extra = step_cost(costs, 1) - costs.plain + kCatchUp * costs.draft * waited;
  return can_pay && waited >= kProbeSpacing && extra <= kProbeShare * costs.plain * waited ? 1 : 0;
}

}  // namespace ardiff::speculation
