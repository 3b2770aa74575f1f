// The whole game on a toy: pictures of four tokens, each token's law depending on the one before, drafted and verified in
// rounds as the engine does, with its keys (seed, token, attempt). The joint law of the four must be that of drawing
// them one by one, whatever γ, verifier and gate; and the check must find gates and keys that are wrong.
#include <gtest/gtest.h>

#include <algorithm>

#include "speculation/philox_source.h"
#include "speculation/verify.h"
#include "support/statistics.h"
#include "support/toy_model.h"

namespace ardiff::test {
namespace {

using namespace speculation;

constexpr int64_t kTokens = 4;
const std::vector<SamplerStep> kSteps = ancestral_steps(6, 0.08);
const double kScale = 1.0 / 0.92;  // token = x_K / a_K

Point token_of(const Point& end) { return {end[0] * kScale, end[1] * kScale}; }

// Purposes of docs/contract.md; V3's paths, which the engine has none of, take a number of their own.
constexpr uint32_t kInitial = 0, kTimestep = 1, kResidualPaths = 9;

struct NoiseKey {
  uint64_t seed;
  int64_t token;
  uint32_t attempt;
  uint32_t paths = 0;  // 0: the token itself, else number of the residual path

  Point operator()(int step) const {
    const uint32_t purpose = paths > 0 ? kResidualPaths : step < 0 ? kInitial : kTimestep;
    const auto timestep = static_cast<uint32_t>(paths > 0 ? step + 1 : std::max(step, 0));
    const auto normals = philox_normals(philox4x32({paths, timestep | purpose << 16, static_cast<uint32_t>(token), attempt},
                                                   {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)}));
    return {normals[0], normals[1]};
  }
};

Model model_of(const Mixture& mixture) {
  return [mixture](const Point& x, double t) { return mixture.velocity(x, t); };
}
Model target_after(const Point& context) { return model_of(toy_target(context)); }
Model draft_after(const Point& context) { return model_of(toy_draft(context)); }

Point draw(const Model& model, const NoiseKey& noise) { return token_of(run_path(model, kSteps, noise(-1), 0, noise).end); }

using Picture = std::vector<double>;  // 2 kTokens numbers

void append(Picture& picture, const Point& token) { picture.insert(picture.end(), token.begin(), token.end()); }
Point last_of(const Picture& picture) { return picture.empty() ? Point{} : Point{picture[picture.size() - 2], picture.back()}; }

Picture drawn_one_by_one(uint64_t seed) {
  Picture out;
  for (int64_t token = 0; token < kTokens; ++token) append(out, draw(target_after(last_of(out)), {seed, token, 0}));
  return out;
}

// How a round may go wrong, for the controls.
enum class Gate { kNone, kPreviousToken, kOwnToken };
struct Options {
  Verifier verifier = Verifier::kChain;
  int64_t drafts = 3;
  Gate gate = Gate::kNone;
  bool new_attempts = true;   // false: discarded positions draw the same noise again
  bool accept_all = false;
};

struct Tally {
  int64_t rounds = 0, tokens = 0;
};

class RoundPaths final : public TargetPaths {
 public:
  RoundPaths(uint64_t seed, int64_t first, const std::vector<Point>& contexts, const std::array<uint32_t, kTokens>& attempts)
      : seed_(seed), first_(first), contexts_(contexts), attempts_(attempts) {}
  double draw(int64_t token, uint32_t proposal, std::span<float> end) override {
    const Point& context = contexts_[static_cast<size_t>(token)];
    const NoiseKey noise{seed_, first_ + token, attempts_[static_cast<size_t>(first_ + token)], proposal + 1};
    const ToyPath path = run_path(target_after(context), kSteps, noise(-1), 0, noise);
    ToyChain chain(kSteps);
    chain.add(path, draft_after(context));
    double log_ratio = 0.0;
    for (const Letter& letter : letters_of(chain.view())) log_ratio -= letter.log_ratio;
    for (size_t i = 0; i < 2; ++i) end[i] = static_cast<float>(path.end[i]);
    return log_ratio;
  }

 private:
  uint64_t seed_;
  int64_t first_;
  const std::vector<Point>& contexts_;
  const std::array<uint32_t, kTokens>& attempts_;
};

Picture drawn_in_rounds(uint64_t seed, const Options& options, Tally& tally) {
  Picture out;
  std::array<uint32_t, kTokens> attempts{};
  while (out.size() < 2 * kTokens) {
    const auto first = static_cast<int64_t>(out.size() / 2);
    const int64_t most = std::min(options.drafts, kTokens - first - 1);  // one is left for the token after the drafts
    ToyChain chain(kSteps);
    std::vector<Point> contexts = {last_of(out)};
    for (int64_t j = 0; j < most; ++j) {
      if (options.gate == Gate::kPreviousToken && j > 0 && contexts.back()[0] > 0.5) break;
      const auto at = static_cast<size_t>(first + j);
      const NoiseKey noise{seed, first + j, attempts[at]};
      const ToyPath path = run_path(draft_after(contexts.back()), kSteps, noise(-1), 0, noise);
      if (options.gate == Gate::kOwnToken && j > 0 && path.end[0] > 0.3) {
        ++attempts[at];
        break;
      }
      chain.add(path, target_after(contexts.back()));
      contexts.push_back(token_of(path.end));
    }
    const int64_t drafted = chain.tokens;
    PhiloxSource source(seed, first, {attempts.begin() + first, attempts.end()});
    RoundPaths paths(seed, first, contexts, attempts);
    if (options.accept_all) chain.target = chain.draft;
    const Verdict verdict = verify(options.verifier, chain.view(), source, &paths);
    for (int64_t j = 0; j < verdict.accepted_tokens; ++j) append(out, contexts[static_cast<size_t>(j + 1)]);
    if (options.new_attempts) {
      for (int64_t j = verdict.accepted_tokens; j < drafted; ++j) ++attempts[static_cast<size_t>(first + j)];
    }
    // The token after the accepted ones: the corrected one, or the one that follows them all.
    const int64_t next = first + verdict.accepted_tokens;
    const NoiseKey noise{seed, next, attempts[static_cast<size_t>(next)]};
    const Model target = target_after(last_of(out));
    const Point start = verdict.next_step == 0 ? noise(-1) : point(verdict.state);
    append(out, token_of(run_path(target, kSteps, start, static_cast<size_t>(verdict.next_step), noise).end));
    ++tally.rounds;
    tally.tokens += verdict.accepted_tokens + 1;
  }
  return out;
}

struct Pictures {
  std::vector<double> numbers;  // rows of 2 kTokens
  double tokens_per_round = 0;

  std::vector<double> column(size_t i, size_t j, double sign, bool product) const {
    std::vector<double> out;
    for (size_t at = 0; at < numbers.size(); at += 2 * kTokens) {
      out.push_back(product ? numbers[at + i] * numbers[at + j] : numbers[at + i] + sign * numbers[at + j]);
    }
    return out;
  }
};

Pictures many_in_rounds(int64_t count, uint64_t first_seed, const Options& options) {
  Pictures out;
  Tally tally;
  for (int64_t n = 0; n < count; ++n) {
    const Picture picture = drawn_in_rounds(first_seed + static_cast<uint64_t>(n), options, tally);
    out.numbers.insert(out.numbers.end(), picture.begin(), picture.end());
  }
  out.tokens_per_round = static_cast<double>(tally.tokens) / static_cast<double>(tally.rounds);
  return out;
}

Pictures many_one_by_one(int64_t count, uint64_t first_seed) {
  Pictures out;
  for (int64_t n = 0; n < count; ++n) {
    const Picture picture = drawn_one_by_one(first_seed + static_cast<uint64_t>(n));
    out.numbers.insert(out.numbers.end(), picture.begin(), picture.end());
  }
  return out;
}

// The check of this file: every number, and differences and products of numbers of different tokens.
double joint_p(const Pictures& a, const Pictures& b) {
  std::vector<double> p;
  for (size_t i = 0; i < 2 * kTokens; ++i) p.push_back(ks_two_sample_p(a.column(i, i, 0.0, false), b.column(i, i, 0.0, false)));
  for (const auto& [i, j] : {std::pair<size_t, size_t>{0, 2}, {2, 4}, {4, 6}, {1, 3}, {3, 5}, {1, 6}}) {
    p.push_back(ks_two_sample_p(a.column(i, j, -1.0, false), b.column(i, j, -1.0, false)));
    p.push_back(ks_two_sample_p(a.column(i, j, 0.0, true), b.column(i, j, 0.0, true)));
  }
  return bonferroni(p);
}

size_t energy_rows() { return long_tests() ? 900 : 300; }

// Seeds of rounds and of the reference never overlap; each comparison has its own of both.
struct Comparison {
  double joint, energy, tokens_per_round;
};
Comparison compare(int64_t count, uint64_t number, const Options& options) {
  const uint64_t seeds = number << 40;
  const Pictures rounds = many_in_rounds(count, seeds, options), reference = many_one_by_one(count, seeds + (uint64_t{1} << 39));
  return {joint_p(rounds, reference), energy_p(rounds.numbers, reference.numbers, 2 * kTokens, energy_rows()), rounds.tokens_per_round};
}

TEST(Round, JointLawDoesNotDependOnTheNumberOfDrafts) {
  double before = 1.0;
  for (int64_t drafts : {1, 2, 3}) {
    const Comparison c = compare(samples(20000), static_cast<uint64_t>(drafts), {.drafts = drafts});
    EXPECT_GT(c.joint, kPass) << drafts << " drafts";
    EXPECT_GT(c.energy, kEnergyPass) << drafts << " drafts";
    EXPECT_GT(c.tokens_per_round, before) << drafts << " drafts";
    before = c.tokens_per_round;
  }
}

TEST(Round, JointLawOfTheOtherVerifiers) {
  for (Verifier verifier : {Verifier::kStepwise, Verifier::kPath}) {
    const Comparison c = compare(samples(10000), 10 + static_cast<uint64_t>(verifier), {.verifier = verifier});
    EXPECT_GT(c.joint, kPass) << static_cast<int>(verifier);
    EXPECT_GT(c.energy, kEnergyPass) << static_cast<int>(verifier);
  }
}

// A gate may read the tokens before the one it stops.
TEST(Round, GateOnThePreviousTokenKeepsTheLaw) {
  const Comparison c = compare(samples(20000), 20, {.gate = Gate::kPreviousToken});
  EXPECT_GT(c.joint, kPass);
  EXPECT_GT(c.energy, kEnergyPass);
}

// Same seeds, same drafts: nothing but keys decides, so a picture is the same whenever it is drawn.
TEST(Round, IsAFunctionOfItsSeed) {
  Tally tally;
  const Options options;
  const Picture once = drawn_in_rounds(77, options, tally);
  for (uint64_t other : {1, 2, 3}) drawn_in_rounds(other, options, tally);
  EXPECT_EQ(drawn_in_rounds(77, options, tally), once);
}

// ---- wrong variants that the check must find ----

// A gate that looks at a drafted token and drops it keeps those it likes.
TEST(RoundControls, GateOnTheTokenItselfIsFound) {
  EXPECT_LT(compare(full_samples(20000), 30, {.gate = Gate::kOwnToken}).joint, kCaught);
}

// The chain's verifier has looked at the noise of discarded positions: drawing them again with it is biased. With a new
// attempt the same comparison passes.
TEST(RoundControls, NoiseOfDiscardedPositionsDrawnAgainIsFound) {
  EXPECT_LT(compare(full_samples(60000), 31, {.new_attempts = false}).joint, kCaught);
  EXPECT_GT(compare(full_samples(60000), 31, {}).joint, kPass);
}

TEST(RoundControls, AcceptingEveryDraftIsFound) {
  const Comparison c = compare(full_samples(20000), 32, {.accept_all = true});
  EXPECT_LT(c.joint, kCaught);
  EXPECT_LT(c.energy, kEnergyPass);
}

}  // namespace
}  // namespace ardiff::test
