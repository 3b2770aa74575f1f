// The choice of γ against brute force, the speed model against simulated rounds, and the promise of never being much
// slower than plain drawing.
#include "speculation/draft_length.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "support/random_stream.h"
#include "support/statistics.h"

namespace ardiff::test {
namespace {

using namespace speculation;

// 0.12 a draft; 0.45 the verification and 0.55 the token after it.
constexpr SpeculationCosts kKnown{.plain = 1.0, .round = 1.0, .draft = 0.12, .verify = 0.0};

// A draft model so small beside its target that catching up costs next to nothing.
constexpr SpeculationCosts kCheap{.plain = 1.0, .round = 1.0, .draft = 0.04, .verify = 0.08};

double speed(const SpeculationCosts& costs, double acceptance, int64_t drafts) {
  return expected_tokens(acceptance, drafts) * costs.plain / step_cost(costs, drafts);
}

// How many of `drafts` stay when each does with that probability.
int64_t accepted_of(int64_t drafts, double acceptance, RandomStream& random) {
  int64_t accepted = 0;
  while (accepted < drafts && random.uniform() < acceptance) ++accepted;
  return accepted;
}

TEST(DraftLength, ExpectedTokensAreThoseOfSimulatedRounds) {
  RandomStream random(700);
  const int64_t count = samples(400000);
  for (const auto& [acceptance, drafts] : {std::pair<double, int64_t>{0.8, 4}, {0.6, 3}, {0.9, 8}}) {
    double tokens = 0.0;
    for (int64_t n = 0; n < count; ++n) tokens += static_cast<double>(1 + accepted_of(drafts, acceptance, random));
    EXPECT_NEAR(expected_tokens(acceptance, drafts), tokens / static_cast<double>(count), 0.02);
    EXPECT_NEAR(expected_tokens(acceptance, drafts), (1.0 - std::pow(acceptance, drafts + 1)) / (1.0 - acceptance), 1e-12);
  }
}

TEST(DraftLength, KnownOptima) {
  const int64_t best[] = {2, 4, 7, 14};
  const double speedup[] = {1.41, 1.87, 2.64, 4.01}, acceptance[] = {0.5, 0.7, 0.85, 0.95};
  for (size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(best_draft_length(kKnown, acceptance[i], 40), best[i]);
    EXPECT_NEAR(speed(kKnown, acceptance[i], best[i]), speedup[i], 0.01);
  }
}

TEST(DraftLength, IsTheBestOfAllAndNeverWorseThanPlain) {
  RandomStream random(701);
  int64_t drafted = 0, plain = 0;
  for (int i = 0; i < 20000; ++i) {
    const SpeculationCosts costs{0.5 + random.uniform(), 2.0 * random.uniform(), 0.5 * random.uniform(), 0.3 * random.uniform()};
    const double acceptance = random.uniform();
    const int64_t most = static_cast<int64_t>(20.0 * random.uniform());
    const int64_t chosen = best_draft_length(costs, acceptance, most);
    ASSERT_LE(chosen, most);
    double best = 0.0;
    for (int64_t drafts = 0; drafts <= most; ++drafts) best = std::max(best, speed(costs, acceptance, drafts));
    ASSERT_GE(speed(costs, acceptance, chosen), best * (1.0 - 1e-9));
    if (chosen > 0) { ASSERT_GT(speed(costs, acceptance, chosen), 1.0); }
    ++(chosen > 0 ? drafted : plain);
  }
  EXPECT_GT(drafted, 1000);
  EXPECT_GT(plain, 1000);
}

TEST(DraftLength, EdgesOfTheRule) {
  EXPECT_EQ(best_draft_length(kKnown, 0.9, 0), 0);
  EXPECT_EQ(best_draft_length(kKnown, 1.0, 8), 8);
  EXPECT_EQ(best_draft_length(kKnown, 0.0, 8), 0);
  EXPECT_EQ(best_draft_length({1.0, 0.5, 0.0, 0.0}, 0.5, 6), 6) << "free drafts";
  EXPECT_EQ(choose_draft_length(kKnown, 0.9, {.plain_tokens = 1000}, 0), 0) << "a probe has no room either";
}

TEST(DraftLength, AcceptanceForgets) {
  AcceptanceHistory history;
  EXPECT_DOUBLE_EQ(acceptance_rate(history, 0.7), 0.7);
  observe_round(history, 4, 2);  // yes, yes, no; the fourth was not tested
  EXPECT_DOUBLE_EQ(history.tested, 1.0 + 0.95 + 0.95 * 0.95);
  EXPECT_DOUBLE_EQ(history.accepted, 0.95 + 0.95 * 0.95);
  EXPECT_DOUBLE_EQ(acceptance_rate(history, 0.7), (8.0 * 0.7 + history.accepted) / (8.0 + history.tested));
  AcceptanceHistory all = history, none = history, stopped = history;
  observe_round(all, 2, 2);
  EXPECT_DOUBLE_EQ(all.tested, 0.95 * (0.95 * history.tested + 1.0) + 1.0);
  EXPECT_GT(acceptance_rate(all, 0.7), acceptance_rate(history, 0.7));
  observe_round(none, 1, 0);
  observe_round(stopped, 0, 0);
  EXPECT_EQ(none.accepted, stopped.accepted);
  EXPECT_EQ(none.tested, stopped.tested);
  for (int i = 0; i < 500; ++i) observe_round(history, 1, 0);
  EXPECT_NEAR(history.tested, 20.0, 1e-6) << "at most 1 / (1 - 0.95) tests count";
  EXPECT_LT(acceptance_rate(history, 0.7), 0.21);
}

// A sequence of `tokens` tokens under the rule; what it cost, plain drawing being costs.plain a token. Before a round the
// draft model catches up on the plain tokens since the last one, at an eighth of a draft each.
double cost_of(const SpeculationCosts& costs, double prior, double acceptance, int64_t tokens, uint64_t seed) {
  RandomStream random(seed);
  AcceptanceHistory history;
  double cost = 0.0;
  for (int64_t drawn = 0; drawn < tokens;) {
    const int64_t drafts = choose_draft_length(costs, prior, history, std::min<int64_t>(8, tokens - drawn - 1));
    cost += step_cost(costs, drafts);
    if (drafts == 0) {
      observe_plain(history, 1);
      ++drawn;
    } else {
      cost += costs.draft / 8.0 * static_cast<double>(history.plain_tokens);
      const int64_t accepted = accepted_of(drafts, acceptance, random);
      observe_round(history, drafts, accepted);
      drawn += accepted + 1;
    }
  }
  return cost;
}

double mean_share(const SpeculationCosts& costs, double prior, double acceptance, int64_t tokens) {
  double sum = 0.0;
  constexpr int kRuns = 200;
  for (uint64_t seed = 0; seed < kRuns; ++seed) sum += cost_of(costs, prior, acceptance, tokens, 800 + seed);
  return sum / (kRuns * costs.plain * static_cast<double>(tokens));
}

TEST(DraftLength, AdaptiveRuleFindsTheOptimum) {
  for (double acceptance : {0.5, 0.7, 0.85, 0.95}) {
    // Long sequences: what is left is the price of an estimate from about 20 tests.
    const double best = 1.0 / speed(kKnown, acceptance, best_draft_length(kKnown, acceptance, 8));
    EXPECT_LT(mean_share(kKnown, acceptance, acceptance, 2000), 1.03 * best) << acceptance;
    EXPECT_LT(mean_share(kKnown, 0.6, acceptance, 2000), 1.10 * best) << acceptance << " from another prior";
  }
}

TEST(DraftLength, ProbesCostLittleWhereDraftsAreBad) {
  for (const SpeculationCosts& costs : {kKnown, kCheap, SpeculationCosts{1.0, 1.5, 0.3, 0.2}, SpeculationCosts{1.0, 1.05, 0.6, 0.0}}) {
    for (int64_t tokens : {64, 1024}) EXPECT_LT(mean_share(costs, 0.05, 0.0, tokens), 1.0101) << tokens << " tokens";
  }
}

TEST(DraftLength, ComesBackWhenDraftsHaveBecomeGood) {
  AcceptanceHistory history;
  for (int i = 0; i < 100; ++i) observe_round(history, 1, 0);
  ASSERT_EQ(choose_draft_length(kCheap, 0.1, history, 8), 0);
  // From here on every draft is good.
  int64_t tokens = 0, probes = 0;
  for (; tokens < 2000 && best_draft_length(kCheap, acceptance_rate(history, 0.1), 8) == 0; ++tokens) {
    if (choose_draft_length(kCheap, 0.1, history, 8) == 0) {
      observe_plain(history, 1);
    } else {
      observe_round(history, 1, 1);
      ++probes;
    }
  }
  EXPECT_LT(tokens, 200) << "after " << probes << " probes";
  EXPECT_GT(probes, 0);
}

TEST(DraftLength, NeverProbesWhereCatchingUpCostsTooMuch) {
  // 0.12 / 8 of a token for every token since the last draft is more than the 1 % that probes may cost, however seldom they come.
  for (int64_t plain : {100, 1000000}) EXPECT_EQ(choose_draft_length(kKnown, 0.1, {.plain_tokens = plain}, 8), 0);
}

TEST(DraftLength, NeverProbesWherePerfectDraftsWouldNotPay) {
  const SpeculationCosts costs{1.0, 1.0, 0.7, 0.4};
  for (int64_t plain : {0, 100, 1000000}) EXPECT_EQ(choose_draft_length(costs, 0.99, {.plain_tokens = plain}, 8), 0);
}

}  // namespace
}  // namespace ardiff::test
