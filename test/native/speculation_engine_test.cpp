// What speculation may not change (docs/speculation.md): drafts that are the target's own are all kept, a tolerance of 0
// keeps the picture of mode off to the bit, guidance means the same in every mode.
#include "expect_error.h"
#include "support/speculation_fixture.h"
#include "support/target_drafter.h"

namespace ardiff {
namespace {

using namespace testing_support;

class SpeculationEngine : public SpeculationTest {
 protected:
  void draft_as_the_target(TargetDrafter::Spread spread = [](const Sequence&, int64_t) { return 0.0f; }) {
    engine_.set_drafter([&](const DraftParts& parts) { return std::make_unique<TargetDrafter>(parts, accelerated_model().path(), std::move(spread)); });
  }
  Drawn draw(const SequenceSpec& spec) { return Studio(engine_, 3, 7).draw(spec); }
};

// C13. Draft and target are the same network on the same inputs: the ratio is 1, the gap 0, in every mode.
TEST_P(SpeculationEngine, DraftsOfTheTargetItselfAreAllAccepted) {
  for (const int64_t few_step : {0, 1, 2}) {
    for (const size_t rows : {1, 2, 3}) {
      if (few_step > 0 && rows > 1) continue;
      const SequenceSpec spec = plain_picture(1, "a red cat", 21 + rows, rows, few_step);
      draft_as_the_target();
      const Drawn plain = draw(spec);
      for (const SpeculationMode mode : {SpeculationMode::kRelaxed, SpeculationMode::kExact}) {
        if (few_step > 0 && mode == SpeculationMode::kExact) continue;
        for (const int64_t drafts : {1, 4, 15}) {
          const Drawn fast = draw(speculating(spec, mode, drafts));
          SCOPED_TRACE(testing::Message() << few_step << " jumps, " << rows << " rows, mode " << static_cast<int>(mode) << ", γ " << drafts);
          EXPECT_EQ(fast.tokens, plain.tokens);
          EXPECT_EQ(fast.drafted(), fast.kept());
          EXPECT_EQ(static_cast<int64_t>(fast.rounds.size()), (12 + drafts) / (drafts + 1));
          ASSERT_EQ(fast.accepted.size(), 12u);
          EXPECT_EQ(static_cast<int64_t>(fast.rounds.size()), 12 - fast.kept()) << "each round has one token of the target's";
        }
      }
    }
  }
}

// C14 and C15. Nothing is kept but what equals the target's token, whatever was drafted and however.
TEST_P(SpeculationEngine, ToleranceZeroIsModeOff) {
  for (const int64_t few_step : {0, 1, 4}) {
    for (const size_t rows : {1, 2, 3}) {
      if (few_step > 0 && rows > 1) continue;
      const SequenceSpec spec = plain_picture(few_step == 1 ? 1 : 2, "a dog", 5 + rows, rows, few_step);
      const Drawn plain = draw(spec);
      for (const Drafting drafting : {Drafting::kSequential, Drafting::kParallel}) {
        for (const int64_t drafts : {1, 3, 15}) {
          const Drawn fast = draw(speculating(spec, SpeculationMode::kRelaxed, drafts, 0.0, drafting));
          SCOPED_TRACE(testing::Message() << few_step << " jumps, " << rows << " rows, γ " << drafts);
          EXPECT_EQ(fast.tokens, plain.tokens);
          EXPECT_EQ(fast.kept(), 0);
          EXPECT_EQ(fast.rounds.size(), 12u) << "exactly one token a round";
          EXPECT_GE(fast.drafted(), 11) << "they were drafted, though";
        }
      }
    }
  }
}

// With a tolerance that nothing exceeds every draft stays: another picture than that of mode off, of few rounds.
TEST_P(SpeculationEngine, ToleranceThatNothingExceedsKeepsEveryDraft) {
  for (const int64_t few_step : {0, 1, 2}) {
    const SequenceSpec spec = plain_picture(1, "a dog", 8, few_step > 0 ? 1 : 2, few_step);
    const Drawn plain = draw(spec);
    const Drawn fast = draw(speculating(spec, SpeculationMode::kRelaxed, 3, 1e30));
    EXPECT_EQ(fast.rounds.size(), 3u);
    EXPECT_EQ(fast.kept(), 9);
    EXPECT_NE(fast.tokens, plain.tokens);
    const auto size = static_cast<size_t>(engine_.info().token_size);
    EXPECT_TRUE(std::equal(plain.tokens.begin(), plain.tokens.begin() + static_cast<std::ptrdiff_t>(size), fast.tokens.begin())) << "the first token is the target's";
    for (const float value : fast.tokens) EXPECT_TRUE(std::isfinite(value));
  }
}

// With a single jump a kept draft is context only: the picture has the token that would stand there had it been dropped.
TEST_P(SpeculationEngine, WithOneJumpThePictureShowsTheTargetsTokens) {
  SequenceSpec spec = speculating(plain_picture(1, "a dog", 8, 1, 1), SpeculationMode::kRelaxed, 1, 1e30);
  spec.speculation->trace = true;
  const Drawn kept = draw(spec);
  ASSERT_FALSE(kept.trace.empty());
  ASSERT_EQ(kept.accepted[1], 1);
  spec.speculation->tolerance = 0.999 * static_cast<double>(kept.trace[4]);  // of the first draft
  const Drawn dropped = draw(spec);
  ASSERT_EQ(dropped.accepted[1], 0);
  const auto two = static_cast<std::ptrdiff_t>(2 * engine_.info().token_size);
  EXPECT_TRUE(std::equal(kept.tokens.begin(), kept.tokens.begin() + two, dropped.tokens.begin()));
  EXPECT_NE(kept.tokens, dropped.tokens) << "what follows was drawn in another context";
}

// A round is priced and judged by its own sequence's past, so the same drafts are proposed whether one round or many are
// run in a step.
TEST_P(SpeculationEngine, RoundsOfOneStepAreRoundsOfManySteps) {
  const std::vector<SequenceSpec> specs = {speculating(plain_picture(1, "a", 3), SpeculationMode::kExact, 4),
                                           speculating(plain_picture(2, "b", 4, 1), SpeculationMode::kExact, 3, 0, Drafting::kParallel),
                                           speculating(plain_picture(3, "c", 5, 1, 1), SpeculationMode::kRelaxed, 5, 0.5),
                                           speculating(plain_picture(4, "d", 6, 3), SpeculationMode::kRelaxed, 2, 1.0)};
  for (SequenceSpec spec : specs) {
    spec.speculation->adaptive = true;
    spec.speculation->trace = true;
    const Drawn one = draw(spec);
    for (const int64_t rounds : {2, 12}) {
      const Drawn many = Studio(engine_, 90, 3).draw(spec, rounds);
      EXPECT_EQ(many.tokens, one.tokens) << "picture " << spec.id;
      EXPECT_EQ(many.accepted, one.accepted);
      ASSERT_EQ(many.trace.size(), one.trace.size());
      for (size_t i = 0; i < one.trace.size(); ++i) EXPECT_TRUE(many.trace[i] == one.trace[i] || std::isnan(one.trace[i])) << i;
    }
  }
}

// Exact verification draws other pictures than mode off, some drafts kept and some not, all of them finite; recorded
// outcomes agree with each other.
TEST_P(SpeculationEngine, ExactKeepsSomeDraftsAndCorrectsTheOthers) {
  int64_t kept = 0, drafted = 0;
  for (const Drafting drafting : {Drafting::kSequential, Drafting::kParallel}) {
    for (uint64_t seed = 1; seed <= 4; ++seed) {
      const SequenceSpec spec = plain_picture(static_cast<uint32_t>(seed), "a house", seed);
      SequenceSpec fast = speculating(spec, SpeculationMode::kExact, 3, 0, drafting);
      fast.speculation->trace = true;
      const Drawn drawn = draw(fast);
      kept += drawn.kept();
      drafted += drawn.drafted();
      ASSERT_EQ(drawn.tokens.size(), 12u * static_cast<size_t>(engine_.info().token_size));
      for (const float value : drawn.tokens) ASSERT_TRUE(std::isfinite(value));
      ASSERT_EQ(drawn.accepted.size(), 12u);
      const size_t columns = static_cast<size_t>(kTraceColumns + engine_.info().accelerator.draft_layers);
      ASSERT_EQ(drawn.trace.size(), static_cast<size_t>(drawn.drafted()) * columns);
      for (size_t row = 0; row < drawn.trace.size(); row += columns) {
        EXPECT_TRUE(std::isfinite(drawn.trace[row + 4])) << "path gap";
        for (size_t layer = 0; layer < 2; ++layer) {
          EXPECT_GE(drawn.trace[row + static_cast<size_t>(kTraceColumns) + layer], 0.0f);
          EXPECT_LE(drawn.trace[row + static_cast<size_t>(kTraceColumns) + layer], 1.0001f);
        }
      }
    }
  }
  EXPECT_GT(kept, 0) << "of " << drafted;
  EXPECT_LT(kept, drafted);
}

// C19. Two rows of the same prompt are one row at any scale; two rows at scale 1 are the conditional one.
TEST_P(SpeculationEngine, GuidanceRowsThatSayTheSameAreOneRow) {
  for (const SpeculationMode mode : {SpeculationMode::kExact, SpeculationMode::kRelaxed}) {
    const SequenceSpec one = speculating(plain_picture(1, "a cat", 31, 1), mode, 3, 1.0);
    const Drawn alone = draw(one);
    SequenceSpec twice = one;
    twice.prompt_rows.push_back(twice.prompt_rows[0]);
    twice.guidance_scale = 4.5;
    const Drawn same = draw(twice);
    EXPECT_EQ(same.tokens, alone.tokens);
    EXPECT_EQ(same.accepted, alone.accepted);

    SequenceSpec weightless = one;
    weightless.prompt_rows.push_back(prompt_ids("something else"));
    const Drawn close = draw(weightless);
    EXPECT_EQ(close.accepted, alone.accepted);
    ASSERT_EQ(close.tokens.size(), alone.tokens.size());
    // u + 1 (c - u) is c but for a rounding, which bfloat16 products carry on.
    for (size_t i = 0; i < alone.tokens.size(); ++i) EXPECT_NEAR(close.tokens[i], alone.tokens[i], is_float32() ? 1e-4 : 0.1) << i;
  }
}

// A gate that always stops costs drafts, not tokens: the picture is that of mode off in relaxed mode, too.
TEST_P(SpeculationEngine, GateThatAlwaysStops) {
  const SequenceSpec spec = plain_picture(1, "a cat", 9);
  const Drawn plain = draw(spec);
  SequenceSpec gated = speculating(spec, SpeculationMode::kRelaxed, 4, 1e30);
  gated.speculation->gate.kind = speculation::GateKind::kLogistic;
  gated.speculation->gate.weights = {-20, 0, 0, 0, 0, 0};  // predicted acceptance about 0
  gated.speculation->gate.threshold = 0.5;
  const Drawn stopped = draw(gated);
  EXPECT_EQ(stopped.tokens, plain.tokens);
  EXPECT_EQ(stopped.drafted(), 0);
  ASSERT_EQ(stopped.rounds.size(), 12u);
  for (size_t i = 0; i + 1 < stopped.rounds.size(); ++i) EXPECT_TRUE(stopped.rounds[i].gate_stopped);
  gated.speculation->gate.weights[0] = 20;
  EXPECT_EQ(draw(gated).kept(), 9) << "and one that never does stops nothing";
}

// Where drafts are never kept, a sequence ends with hardly any: it learns from its own rounds, and from a gate's stops.
TEST_P(SpeculationEngine, DraftLengthFallsToNothingWhereNothingIsKept) {
  SequenceSpec spec = speculating(plain_picture(1, "a cat", 9), SpeculationMode::kRelaxed, 4, 0.0);
  spec.grid_height = spec.grid_width = 6;
  spec.speculation->adaptive = true;
  spec.speculation->costs = {1.0, 1.05, 0.2, 0.2};
  const Drawn drawn = draw(spec);
  ASSERT_EQ(drawn.rounds.size(), 36u);
  EXPECT_GT(drawn.rounds.front().drafted, 0);
  EXPECT_EQ(drawn.rounds[20].drafted, 0);
  spec.speculation->gate.kind = speculation::GateKind::kLogistic;
  spec.speculation->gate.weights = {-20, 0, 0, 0, 0, 0};
  spec.speculation->gate.threshold = 0.5;
  const Drawn gated = draw(spec);
  EXPECT_TRUE(gated.rounds.front().gate_stopped);
  EXPECT_FALSE(gated.rounds[20].gate_stopped) << "it is not even asked any more";
}

TEST_P(SpeculationEngine, RefusesWhatItCannotVerify) {
  Studio studio(engine_);
  const auto refused = [&](const SequenceSpec& spec, const std::string& part) {
    StepPlan plan;
    plan.admit = {spec};
    expect_error([&] { engine_.step(plan); }, ErrorCode::kInvalidArgument, part);
  };
  const SequenceSpec exact = speculating(plain_picture(1, "x", 1), SpeculationMode::kExact, 2);
  const auto with = [](SequenceSpec spec, const std::function<void(SequenceSpec&)>& change) {
    change(spec);
    return spec;
  };
  for (const Sampler sampler : {Sampler::kA, Sampler::kCOde}) {
    refused(with(exact, [&](SequenceSpec& s) { s.sampler.sampler = sampler; }), "steps without noise");
  }
  refused(with(exact, [](SequenceSpec& s) { s.speculation->max_draft_tokens = 16; }), "16 draft tokens");
  refused(with(exact, [](SequenceSpec& s) { s.speculation->max_draft_tokens = 0; }), "0 draft tokens");
  refused(with(exact, [](SequenceSpec& s) { s.speculation->tolerance = -1; }), "tolerance -1");
  refused(with(exact, [](SequenceSpec& s) { s.speculation->tolerance = INFINITY; }), "tolerance inf");
  refused(with(exact, [](SequenceSpec& s) { s.speculation->acceptance = 1.5; }), "acceptance 1.5");
  refused(with(exact, [](SequenceSpec& s) { s.speculation->gate_layer = 2; }), "layer 2 of a draft of 2");
  refused(with(exact, [](SequenceSpec& s) { s.speculation->costs.plain = 0; }), "cost");
  refused(with(exact, [](SequenceSpec& s) { s.few_step = 1; s.prompt_rows.resize(1); }), "cannot be verified exactly");
  refused(plain_picture(1, "x", 1, 2, 1), "few steps take one");
  refused(plain_picture(1, "x", 1, 1, 3), "3 is not one of");
}

INSTANTIATE_TEST_SUITE_P(Backends, SpeculationEngine, testing::ValuesIn(settings()), setting_name);

}  // namespace
}  // namespace ardiff
