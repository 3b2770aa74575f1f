// verify_drafts on every backend: the verdicts of the reference, whoever else is in the batch; the target's law on a toy whose law is
// known; and wrong masses, which both must find.
#include <gtest/gtest.h>

#include <cmath>

#include "support/drafted_batch.h"
#include "support/random_stream.h"
#include "support/statistics.h"
#include "support/toy_model.h"

namespace ardiff::test {
namespace {

std::vector<std::string> backend_names() {
  std::vector<std::string> out;
  for (const char* name : {"reference", "cpu", "cuda"}) {
    try {
      make_backend({name, "float32", 1});
      out.emplace_back(name);
    } catch (const Error&) {  // not in this build, or no device
    }
  }
  return out;
}

class VerifyDrafts : public testing::TestWithParam<std::string> {
 protected:
  std::vector<CaseVerdict> judge(const std::vector<DraftedCase>& cases, int64_t width) {
    std::vector<const DraftedCase*> all;
    for (const DraftedCase& one : cases) all.push_back(&one);
    return judge_together(*backend_, all, width);
  }
  std::unique_ptr<Backend> backend_ = make_backend({GetParam(), "float32", 2});
  std::unique_ptr<Backend> reference_ = make_backend({"reference", "float32", 1});
};

// Drafts whose path gap is about `path_gap`.
DraftedCase random_case(RandomStream& random, Judge judge, int64_t steps, int64_t drafts, int64_t width, double path_gap) {
  DraftedCase out;
  out.judge = judge;
  out.steps = judge == Judge::kJump ? sampler_steps(few_step_sampler(steps)) : sampler_steps({Sampler::kB, steps});
  out.drafts = drafts;
  if (judge == Judge::kJump && steps == 1) out.finished = drafts + (random.uniform() < 0.5 ? 1 : 0);
  const auto numbers = [&] {
    std::vector<float> values(static_cast<size_t>(out.rows() * width));
    for (float& value : values) value = static_cast<float>(random.normal());
    return values;
  };
  out.states = numbers(), out.noise = numbers(), out.draft_velocity = numbers(), out.target_velocity = numbers(), out.next = numbers();
  for (size_t i = 0; i < out.target_velocity.size(); ++i) {
    const SamplerStep& step = out.steps[i / static_cast<size_t>(width) % out.steps.size()];
    const double unit = judge == Judge::kJump ? 1.0 : static_cast<double>(step.gamma / step.b) / std::sqrt(static_cast<double>(steps * width));
    out.target_velocity[i] = out.draft_velocity[i] + static_cast<float>(path_gap * unit) * out.target_velocity[i];
  }
  out.seed = static_cast<uint64_t>(random.uniform() * 0x1p60);
  out.image_token = static_cast<int64_t>(random.uniform() * 1000);
  for (int64_t j = 0; j < drafts; ++j) out.attempts.push_back(static_cast<uint32_t>(random.uniform() * 5));
  out.tolerance = path_gap * (judge == Judge::kJump ? 0.9 : 1.0);
  return out;
}

// Of all judges, with gaps from nearly nothing to hopeless.
std::vector<DraftedCase> random_cases(uint64_t seed, int64_t width, int count) {
  RandomStream random(seed);
  std::vector<DraftedCase> out;
  for (int i = 0; i < count; ++i) {
    const Judge judge = i % 3 == 0 ? Judge::kGap : i % 3 == 1 ? Judge::kJump : Judge::kChain;
    const int64_t jumps[] = {1, 2, 4}, steps[] = {1, 3, 28, 70};
    const double gaps[] = {0.01, 0.3, 1.0, 4.0};
    const auto pick = [&](size_t n) { return static_cast<size_t>(random.uniform() * static_cast<double>(n)); };
    const int64_t k = judge == Judge::kJump ? jumps[pick(3)] : steps[pick(4)];
    out.push_back(random_case(random, judge, k, 1 + static_cast<int64_t>(pick(15)), width, gaps[pick(4)]));
  }
  return out;
}

// Sums are made in one order everywhere, so statistics are the same bits and outcomes the same; states differ by what the
// device's exp, log and erfc round otherwise.
void expect_same(const CaseVerdict& expected, const CaseVerdict& actual, const std::string& what) {
  EXPECT_EQ(actual.accepted, expected.accepted) << what;
  EXPECT_EQ(actual.next_step, expected.next_step) << what;
  ASSERT_EQ(actual.statistic.size(), expected.statistic.size());
  for (size_t j = 0; j < expected.statistic.size(); ++j) {
    EXPECT_TRUE(actual.statistic[j] == expected.statistic[j] || (std::isnan(actual.statistic[j]) && std::isnan(expected.statistic[j])))
        << what << ", draft " << j << ": " << actual.statistic[j] << ", expected " << expected.statistic[j];
  }
  for (size_t i = 0; i < expected.pending.size(); ++i) {
    EXPECT_NEAR(actual.pending[i], expected.pending[i], 1e-5f * (1.0f + std::fabs(expected.pending[i]))) << what << ", number " << i;
  }
}

TEST_P(VerifyDrafts, VerdictsOfTheReference) {
  for (const int64_t width : {1, 3, 16, 64, 300}) {
    const std::vector<DraftedCase> cases = random_cases(static_cast<uint64_t>(width), width, 90);
    std::vector<const DraftedCase*> all;
    for (const DraftedCase& one : cases) all.push_back(&one);
    const auto expected = judge_together(*reference_, all, width), actual = judge_together(*backend_, all, width);
    int64_t none = 0, some = 0, whole = 0, begun = 0, finished = 0;
    for (size_t i = 0; i < cases.size(); ++i) {
      expect_same(expected[i], actual[i], "width " + std::to_string(width) + ", sequence " + std::to_string(i));
      (actual[i].accepted == 0 ? none : actual[i].accepted < cases[i].drafts ? some : whole) += 1;
      begun += cases[i].judge == Judge::kChain && actual[i].next_step > 0;
      finished += cases[i].finished > 0 && actual[i].next_step > 0;
    }
    for (const int64_t outcome : {none, some, whole, begun, finished}) EXPECT_GT(outcome, 0) << "every outcome is among them, width " << width;
  }
}

// A sequence's verdict is the same bits alone, among others, in any order and at other rows; and nothing is read but its own rows.
TEST_P(VerifyDrafts, SameBytesInEveryBatch) {
  for (const int64_t width : {16, 67}) {
    const std::vector<DraftedCase> cases = random_cases(77, width, 24);
    const std::vector<CaseVerdict> together = judge(cases, width);
    std::vector<const DraftedCase*> reversed;
    for (auto one = cases.rbegin(); one != cases.rend(); ++one) reversed.push_back(&*one);
    const auto backwards = judge_together(*backend_, reversed, width, 3, NAN);
    for (size_t i = 0; i < cases.size(); ++i) {
      EXPECT_TRUE(same_bits(backwards[cases.size() - 1 - i], together[i])) << "sequence " << i << " in the other order";
      EXPECT_TRUE(same_bits(judge_together(*backend_, {&cases[i]}, width, 1, NAN)[0], together[i])) << "sequence " << i << " alone";
    }
  }
}

// A draft whose velocity is not a number is not accepted, and a plain draw of the target takes its place; what is not a number of the
// target's stays visible.
TEST_P(VerifyDrafts, VelocitiesThatAreNotNumbers) {
  constexpr int64_t kWidth = 16;
  for (const Judge by : {Judge::kChain, Judge::kGap, Judge::kJump}) {
    const int64_t steps = by == Judge::kJump ? 2 : 6;
    for (const float wrong : {NAN, INFINITY}) {
      for (const bool of_target : {false, true}) {
        RandomStream random(5);
        DraftedCase one = random_case(random, by, steps, 3, kWidth, 0.0);
        one.tolerance = 1e30;
        (of_target ? one.target_velocity : one.draft_velocity)[static_cast<size_t>((steps + 1) * kWidth + 5)] = wrong;  // token 1, step 1
        const CaseVerdict expected = judge_together(*reference_, {&one}, kWidth)[0], actual = judge_together(*backend_, {&one}, kWidth)[0];
        EXPECT_EQ(actual.accepted, 1);
        EXPECT_EQ(actual.next_step, by == Judge::kChain ? 2 : 0);
        EXPECT_EQ(expected.accepted, 1);
        EXPECT_FALSE(std::isfinite(actual.statistic[1]));
        for (size_t i = 0; i < actual.pending.size() && !of_target; ++i) EXPECT_NEAR(actual.pending[i], expected.pending[i], 1e-5f * (1.0f + std::fabs(expected.pending[i])));
      }
    }
  }
}

TEST_P(VerifyDrafts, NobodyToJudge) { EXPECT_TRUE(judge_together(*backend_, {}, 16, 4).empty()); }

TEST_P(VerifyDrafts, DownloadsOfOneWaitBringEveryPart) {
  std::vector<Tensor> tensors;
  std::vector<std::vector<float>> sent, received;
  for (const int64_t size : {3, 0, 1, 100000, 7}) {
    sent.emplace_back();
    for (int64_t i = 0; i < size; ++i) sent.back().push_back(static_cast<float>(100 * size + i));
    received.emplace_back(static_cast<size_t>(size), -1.0f);
    tensors.push_back(backend_->make(DType::kF32, {size}));
    backend_->upload(tensors.back(), sent.back().data());
  }
  std::vector<Download> parts;
  for (size_t i = 0; i < tensors.size(); ++i) parts.push_back({tensors[i], received[i].data()});
  backend_->download_all(parts);
  EXPECT_EQ(received, sent);
  backend_->download_all({});
}

// ---- the target's law ----

constexpr int64_t kSteps = 16;

struct Outcome {
  std::vector<Point> ends;
  double acceptance = 0;
};

// Single tokens of the toy pair, all drafted by the draft, judged in one call and finished by the target. `change` may spoil what is judged.
Outcome emit(Backend& backend, int64_t count, uint64_t seed, const std::function<void(DraftedCase&)>& change = {}) {
  const std::vector<SamplerStep> steps = ancestral_steps(kSteps, kLast);
  const Mixture target = toy_target(), draft = toy_draft();
  const Model of_target = [&](const Point& x, double t) { return target.velocity(x, t); };
  const Model of_draft = [&](const Point& x, double t) { return draft.velocity(x, t); };
  RandomStream random(seed);
  std::vector<DraftedCase> cases;
  std::vector<Point> drafted;
  for (int64_t n = 0; n < count; ++n) {
    const ToyPath path = fresh_path(of_draft, steps, random);
    ToyChain chain(steps);
    chain.add(path, of_target);
    DraftedCase& one = cases.emplace_back();
    one.steps = steps;
    one.states = chain.states, one.noise = chain.noise, one.draft_velocity = chain.draft, one.target_velocity = chain.target;
    one.seed = seed << 32 | static_cast<uint64_t>(n);
    one.attempts = {0};
    if (change) change(one);
    drafted.push_back(path.end);
  }
  std::vector<const DraftedCase*> all;
  for (const DraftedCase& one : cases) all.push_back(&one);
  const std::vector<CaseVerdict> verdicts = judge_together(backend, all, 2);
  const auto noise = [&random](int) {
    const double first = random.normal();
    return Point{first, random.normal()};
  };
  Outcome out;
  for (size_t n = 0; n < verdicts.size(); ++n) {
    const CaseVerdict& verdict = verdicts[n];
    out.acceptance += static_cast<double>(verdict.accepted) / static_cast<double>(count);
    out.ends.push_back(verdict.accepted == 1 ? drafted[n] : run_path(of_target, steps, point(verdict.pending), static_cast<size_t>(verdict.next_step), noise).end);
  }
  return out;
}

std::vector<Point> drawn_by_the_target(int64_t count, uint64_t seed) {
  const Mixture target = toy_target();
  RandomStream random(seed);
  std::vector<Point> out;
  for (int64_t n = 0; n < count; ++n) {
    out.push_back(fresh_path([&](const Point& x, double t) { return target.velocity(x, t); }, ancestral_steps(kSteps, kLast), random).end);
  }
  return out;
}

TEST_P(VerifyDrafts, EmitsTheTargetsLaw) {
  const int64_t count = full_samples(20000);
  const Outcome outcome = emit(*backend_, count, 600);
  EXPECT_GT(two_sample_p(outcome.ends, drawn_by_the_target(count, 601)), kPass);
  EXPECT_NEAR(outcome.acceptance, 0.756, 0.012) << "known of an independent implementation (speculation/verify_test)";
}

// Masses made of gaps that are too small: too much is accepted, and what is put in the place of the rest is too near.
TEST_P(VerifyDrafts, WrongMassesAreFound) {
  const auto flatter = [](DraftedCase& one) {
    for (size_t i = 0; i < one.target_velocity.size(); ++i) one.target_velocity[i] = 0.5f * (one.target_velocity[i] + one.draft_velocity[i]);
  };
  const int64_t count = full_samples(60000);
  EXPECT_LT(two_sample_p(emit(*backend_, count, 602, flatter).ends, drawn_by_the_target(count, 603)), kCaught);
}

// The comparison with the reference sees a gap that is off by a thousandth.
TEST_P(VerifyDrafts, MassesThatAreOffByLittleAreSeenBesideTheReference) {
  std::vector<DraftedCase> cases = random_cases(9, 16, 60);
  const std::vector<CaseVerdict> right = judge(cases, 16);
  for (DraftedCase& one : cases) {
    for (SamplerStep& step : one.steps) step.b *= 1.001f, step.t += 0.001f;
  }
  const std::vector<CaseVerdict> wrong = judge(cases, 16);
  for (size_t i = 0; i < cases.size(); ++i) {
    EXPECT_NE(wrong[i].statistic, right[i].statistic) << i;
  }
}

INSTANTIATE_TEST_SUITE_P(Backends, VerifyDrafts, testing::ValuesIn(backend_names()), [](const auto& tested) { return tested.param; });

}  // namespace
}  // namespace ardiff::test
