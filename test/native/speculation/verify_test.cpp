// Four verifiers on single tokens of a toy model: each must emit the target's law, and accept as often as theory and an
// independent implementation say. Then chains of many tokens, and the wrong variants that the same check must find.
#include "speculation/verify.h"

#include <gtest/gtest.h>

#include <cmath>

#include "base/error.h"
#include "speculation/normal.h"
#include "support/statistics.h"
#include "support/toy_model.h"

namespace ardiff::test {
namespace {

using namespace speculation;

using Points = std::vector<Point>;

Model velocity_of(const Mixture& mixture) {
  return [mixture](const Point& x, double t) { return mixture.velocity(x, t); };
}

// Fresh paths of the target, with the ratio to the draft at their own states.
class ToyPaths final : public TargetPaths {
 public:
  ToyPaths(Model target, Model draft, const std::vector<SamplerStep>& steps, RandomStream& random)
      : target_(std::move(target)), draft_(std::move(draft)), steps_(steps), random_(random) {}
  double draw(int64_t, uint32_t, std::span<float> end) override {
    const ToyPath path = fresh_path(target_, steps_, random_);
    ToyChain chain(steps_);
    chain.add(path, draft_);  // the roles exchanged: log q/p at this path
    double log_ratio = 0.0;
    for (const Letter& letter : letters_of(chain.view())) log_ratio -= letter.log_ratio;
    for (size_t i = 0; i < 2; ++i) end[i] = static_cast<float>(path.end[i]);
    ++drawn;
    return log_ratio;
  }
  int64_t drawn = 0;

 private:
  Model target_, draft_;
  const std::vector<SamplerStep>& steps_;
  RandomStream& random_;
};

struct Outcome {
  Points ends;
  double acceptance = 0, accepted_steps = 0, path_acceptance = 0, paths = 0;
};

class SingleTokens {
 public:
  explicit SingleTokens(std::vector<SamplerStep> steps) : steps_(std::move(steps)) {}

  Points reference(int64_t count, uint64_t seed) const {
    RandomStream random(seed);
    Points out;
    for (int64_t n = 0; n < count; ++n) out.push_back(fresh_path(target_, steps_, random).end);
    return out;
  }

  // `change` may spoil the drafted chain before it is verified.
  Outcome emit(Verifier verifier, int64_t count, uint64_t seed, const std::function<void(ToyChain&)>& change = {}) const {
    RandomStream random(seed);
    StreamSource source(random);
    ToyPaths paths(target_, draft_, steps_, random);
    const auto noise = [&random](int) {
      const double first = random.normal();
      return Point{first, random.normal()};
    };
    Outcome out;
    const auto total = static_cast<double>(count), k = static_cast<double>(steps_.size());
    for (int64_t n = 0; n < count; ++n) {
      const Point start = noise(-1);
      const ToyPath path = run_path(draft_, steps_, start, 0, noise);
      ToyChain chain(steps_);
      chain.add(path, target_);
      if (verifier == Verifier::kTerminal) {
        const auto same_noise = [&path](int step) {
          const size_t at = 2 * static_cast<size_t>(step);
          return Point{static_cast<double>(path.noise[at]), static_cast<double>(path.noise[at + 1])};
        };
        const ToyPath own = run_path(target_, steps_, start, 0, same_noise);
        chain.target_states = own.states;
        chain.target = own.velocities;
      }
      if (change) change(chain);
      double log_ratio = 0.0;
      for (const Letter& letter : letters_of(chain.view())) log_ratio += letter.log_ratio;
      out.path_acceptance += std::exp(std::min(0.0, log_ratio)) / total;
      const Verdict verdict = verify(verifier, chain.view(), source, &paths);
      if (verdict.accepted_tokens == 1) {
        out.acceptance += 1.0 / total;
        out.accepted_steps += k / total;
        out.ends.push_back(path.end);
      } else {
        out.accepted_steps += static_cast<double>(verdict.next_step - 1) / total;
        out.ends.push_back(run_path(target_, steps_, point(verdict.state), static_cast<size_t>(verdict.next_step), noise).end);
      }
    }
    out.paths = static_cast<double>(paths.drawn) / total;
    return out;
  }

 private:
  std::vector<SamplerStep> steps_;
  Model target_ = velocity_of(toy_target()), draft_ = velocity_of(toy_draft());
};

constexpr Verifier kAll[] = {Verifier::kTerminal, Verifier::kStepwise, Verifier::kPath, Verifier::kChain};

const char* name_of(Verifier verifier) { return std::array{"V1", "V2", "V3", "V4"}[static_cast<size_t>(verifier)]; }

TEST(Verify, EveryVerifierEmitsTheTargetsLaw) {
  const int64_t count = samples(25000);
  uint64_t seed = 100;
  for (const auto& steps : {ancestral_steps(4, kLast), ancestral_steps(16, kLast), sampler_steps({Sampler::kB, 8})}) {
    const SingleTokens tokens(steps);
    for (Verifier verifier : kAll) {
      const Outcome outcome = tokens.emit(verifier, count, ++seed);
      EXPECT_GT(two_sample_p(outcome.ends, tokens.reference(count, ++seed)), kPass) << name_of(verifier) << ", " << steps.size() << " steps";
    }
  }
}

// Acceptances of an independent implementation (numpy), 16 ancestral steps.
TEST(Verify, AcceptsAsOftenAsKnown) {
  const int64_t count = full_samples(20000);
  const SingleTokens tokens(ancestral_steps(16, kLast));
  const double known[] = {0.067, 0.551, 0.837, 0.756};
  for (size_t v = 0; v < 4; ++v) {
    const Outcome outcome = tokens.emit(kAll[v], count, 200 + v);
    EXPECT_NEAR(outcome.acceptance, known[v], 0.012) << name_of(kAll[v]);
  }
}

TEST(Verify, PathTestAcceptsOneMinusTheVariationAndDrawsOnePathAToken) {
  const int64_t count = full_samples(30000);
  for (int k : {4, 16}) {
    const Outcome outcome = SingleTokens(ancestral_steps(k, kLast)).emit(Verifier::kPath, count, 300 + static_cast<uint64_t>(k));
    EXPECT_TRUE(near_share(outcome.acceptance, outcome.path_acceptance, static_cast<double>(count))) << outcome.acceptance;
    EXPECT_NEAR(outcome.paths, 1.0, 0.15);
  }
}

// ---- chains ----

// Rounds of the constant-gap model: every step's gap is D / sqrt(K).
double tokens_per_round(double path_gap, int64_t steps, int64_t drafts, int64_t count) {
  RandomStream random(400);
  StreamSource source(random);
  const double gap = path_gap / std::sqrt(static_cast<double>(steps));
  std::vector<Letter> letters(static_cast<size_t>(steps * drafts));
  double tokens = 0.0;
  for (int64_t n = 0; n < count; ++n) {
    for (Letter& letter : letters) letter = {gap, gap * random.normal() - 0.5 * gap * gap};
    tokens += static_cast<double>(cut_chain(letters, steps, source).letters / steps + 1);
  }
  return tokens / static_cast<double>(count);
}

TEST(Verify, TokensPerRoundOfOneChain) {
  EXPECT_NEAR(tokens_per_round(0.5, 16, 8, full_samples(30000)), 4.65, 0.06);
  EXPECT_NEAR(tokens_per_round(0.25, 16, 8, full_samples(10000)), 6.44, 0.12);
  EXPECT_NEAR(tokens_per_round(0.5, 4, 4, full_samples(10000)), 3.39, 0.07);
  EXPECT_NEAR(tokens_per_round(1.0, 16, 8, full_samples(10000)), 2.59, 0.08);
}

// For fixed letters each hit is independent with probability h_k, computed here from its definition; the cut is the last.
TEST(Verify, CutIsTheLastHit) {
  const std::vector<Letter> letters = {{0.4, -0.3}, {0.7, 0.5}, {0.0, 0.0}, {0.9, -0.6}, {0.3, 0.2}, {0.5, -0.1}};
  RandomStream random(401);
  StreamSource source(random);
  const int64_t count = samples(200000);
  std::vector<double> reached(letters.size() + 1, 0.0), log_p_of = {0.0};
  for (const Letter& letter : letters) log_p_of.push_back(std::min(0.0, log_p_of.back() + letter.log_ratio));
  for (int64_t n = 0; n < count; ++n) {
    const ChainCut cut = cut_chain(letters, 3, source);
    ASSERT_EQ(cut.log_p, log_p_of[static_cast<size_t>(cut.letters)]);
    for (int64_t k = 0; k <= cut.letters; ++k) reached[static_cast<size_t>(k)] += 1.0 / static_cast<double>(count);
  }
  double expected = 0.0;
  std::vector<double> hits;
  for (size_t k = 0; k < letters.size(); ++k) {
    const double log_p = log_p_of[k + 1], p = std::exp(log_p);
    if (k + 1 == letters.size()) {
      hits.push_back(p);
      break;
    }
    const double d = letters[k + 1].gap;
    const double mass = d > 0.0 ? p * normal_cdf(log_p / d + d / 2) - normal_cdf(log_p / d - d / 2) : 0.0;
    hits.push_back(p == 1.0 && mass == 0.0 ? 1.0 : mass / (mass + 1.0 - p));
  }
  for (size_t k = letters.size(); k > 0; --k) {  // the last hit is k or later
    expected = 1.0 - (1.0 - hits[k - 1]) * (1.0 - expected);
    EXPECT_TRUE(near_share(reached[k], expected, static_cast<double>(count))) << "letter " << k << ": " << reached[k] << ", expected " << expected;
  }
}

TEST(Verify, WithoutAGapEverythingIsAccepted) {
  RandomStream random(402);
  StreamSource source(random);
  const Model target = velocity_of(toy_target());
  ToyChain chain(ancestral_steps(6, kLast));
  for (int j = 0; j < 5; ++j) chain.add(fresh_path(target, chain.steps, random), target);
  chain.draft = chain.target;
  chain.target_states = chain.states;
  ToyPaths paths(target, target, chain.steps, random);
  for (Verifier verifier : kAll) {
    const Verdict verdict = verify(verifier, chain.view(), source, &paths);
    EXPECT_EQ(verdict.accepted_tokens, 5);
    EXPECT_EQ(verdict.next_step, 0);
    EXPECT_TRUE(verdict.state.empty());
  }
}

TEST(Verify, NothingAfterAVelocityThatIsNotANumberIsAccepted) {
  RandomStream random(403);
  StreamSource source(random);
  const Model target = velocity_of(toy_target());
  ToyChain chain(ancestral_steps(6, kLast));
  for (int j = 0; j < 3; ++j) chain.add(fresh_path(target, chain.steps, random), target);
  chain.draft = chain.target;
  chain.draft[2 * (6 + 4)] = NAN;  // token 1, step 4
  for (Verifier verifier : {Verifier::kStepwise, Verifier::kChain}) {
    const Verdict verdict = verify(verifier, chain.view(), source);
    EXPECT_EQ(verdict.accepted_tokens, 1);
    EXPECT_EQ(verdict.next_step, 5);
    for (float value : verdict.state) EXPECT_TRUE(std::isfinite(value));
  }
}

TEST(Verify, RefusesWhatCannotBeVerified) {
  RandomStream random(404);
  StreamSource source(random);
  const Model target = velocity_of(toy_target());
  ToyChain chain(sampler_steps({Sampler::kCOde, 4}));
  chain.add(fresh_path(target, chain.steps, random), target);
  EXPECT_THROW(verify(Verifier::kChain, chain.view(), source), Error) << "a sampler without noise";
  chain.steps = ancestral_steps(4, kLast);
  EXPECT_THROW(verify(Verifier::kPath, chain.view(), source), Error) << "no target paths";
  EXPECT_THROW(verify(Verifier::kTerminal, chain.view(), source), Error) << "no states of the target";
  EXPECT_EQ(verify(Verifier::kChain, {}, source).accepted_tokens, 0);
}

// ---- wrong variants that the check must find ----

TEST(VerifyControls, AcceptingEverythingIsFound) {
  for (int k : {4, 16}) {
    const SingleTokens tokens(ancestral_steps(k, kLast));
    const auto blind = [](ToyChain& chain) { chain.target = chain.draft; };
    const Outcome outcome = tokens.emit(Verifier::kChain, full_samples(60000), 500, blind);
    EXPECT_NEAR(outcome.acceptance, 1.0, 1e-9);
    EXPECT_LT(two_sample_p(outcome.ends, tokens.reference(full_samples(60000), 501)), kCaught) << k << " steps";
  }
}

// Velocities of the draft's step before: not the means that made the states.
TEST(VerifyControls, StaleDraftMeansAreFound) {
  const SingleTokens tokens(ancestral_steps(16, kLast));
  const auto stale = [](ToyChain& chain) {
    for (size_t i = chain.draft.size() - 1; i >= 2; --i) chain.draft[i] = chain.draft[i - 2];
  };
  const Outcome outcome = tokens.emit(Verifier::kChain, full_samples(60000), 502, stale);
  EXPECT_LT(two_sample_p(outcome.ends, tokens.reference(full_samples(60000), 503)), kCaught);
}

// Going on from the last accepted state with the target's own step: right only if nothing had been rejected.
TEST(VerifyControls, PlainTargetStepInsteadOfTheResidualIsFound) {
  const auto steps = ancestral_steps(16, kLast);
  const Model target = velocity_of(toy_target()), draft = velocity_of(toy_draft());
  RandomStream random(504);
  StreamSource source(random);
  Points ends;
  const auto noise = [&random](int) {
    const double first = random.normal();
    return Point{first, random.normal()};
  };
  for (int64_t n = 0; n < full_samples(60000); ++n) {
    const ToyPath path = fresh_path(draft, steps, random);
    ToyChain chain(steps);
    chain.add(path, target);
    const auto kept = static_cast<size_t>(cut_chain(letters_of(chain.view()), 16, source).letters);
    const Point from = kept == steps.size() ? path.end : Point{static_cast<double>(path.states[2 * kept]), static_cast<double>(path.states[2 * kept + 1])};
    ends.push_back(run_path(target, steps, from, kept, noise).end);
  }
  EXPECT_LT(two_sample_p(ends, SingleTokens(steps).reference(full_samples(60000), 505)), kCaught);
}

}  // namespace
}  // namespace ardiff::test
