// One Gaussian step of 16 numbers: whatever the verifier makes of the draft's state must have the target's law. Also the
// one-dimensional residual against its density, and the wrong variants that the same check must find.
#include "speculation/residual.h"

#include <gtest/gtest.h>

#include <cmath>

#include "speculation/normal.h"
#include "speculation/verify.h"
#include "support/random_stream.h"
#include "support/statistics.h"

namespace ardiff::test {
namespace {

using namespace speculation;

constexpr int kWidth = 16;

struct DraftedStep {
  std::vector<float> z;
  Letter letter;
  double uniform;
};

// The state after the step, as noise around the target's mean: (x' - m_p) / γ.
using State = std::vector<double>;
using StepRule = std::function<std::pair<bool, State>(const DraftedStep&, RandomStream&)>;

class OneStep {
 public:
  explicit OneStep(double gap) : gap_(gap) {
    RandomStream random(7);
    double squares = 0.0;
    for (double& value : direction_) squares += std::pow(value = random.normal(), 2);
    for (double& value : direction_) value /= std::sqrt(squares);
    for (size_t i = 0; i < kWidth; ++i) {
      x_[i] = static_cast<float>(random.normal());
      v_q_[i] = static_cast<float>(random.normal());
      const double gamma = static_cast<double>(steps_[0].gamma), b = static_cast<double>(steps_[0].b);
      v_p_[i] = static_cast<float>(static_cast<double>(v_q_[i]) + gap * gamma / b * direction_[i]);
    }
  }

  DraftChain chain(const std::vector<float>& z) const { return {steps_, 1, kWidth, x_.data(), z.data(), v_q_.data(), v_p_.data()}; }
  double gap() const { return gap_; }

  State around_target(std::span<const float> state) const {
    State out;
    for (size_t i = 0; i < kWidth; ++i) {
      const double mean = static_cast<double>(steps_[0].a) * static_cast<double>(x_[i]) + static_cast<double>(steps_[0].b) * static_cast<double>(v_p_[i]);
      out.push_back((static_cast<double>(state[i]) - mean) / static_cast<double>(steps_[0].gamma));
    }
    return out;
  }
  State draft_outcome(const std::vector<float>& z) const {
    State out;
    for (size_t i = 0; i < kWidth; ++i) out.push_back(static_cast<double>(z[i]) - gap_ * direction_[i]);
    return out;
  }

  // The check of this file: distribution along the gap, across it, and of the radius.
  struct Result {
    double p, acceptance;
  };
  Result measure(int64_t count, uint64_t seed, const StepRule& rule) const {
    RandomStream random(seed);
    std::vector<double> along, across, radius;
    int64_t accepted = 0;
    for (int64_t n = 0; n < count; ++n) {
      DraftedStep step{std::vector<float>(kWidth), {}, 0.0};
      for (float& value : step.z) value = static_cast<float>(random.normal());
      step.letter = letters_of(chain(step.z))[0];
      step.uniform = random.uniform();
      const auto [kept, y] = rule(step, random);
      if (kept) ++accepted;
      double dot = 0.0, squares = 0.0;
      for (size_t i = 0; i < kWidth; ++i) dot += y[i] * direction_[i], squares += y[i] * y[i];
      // A unit vector orthogonal to the gap.
      const double norm = std::hypot(direction_[0], direction_[1]);
      along.push_back(dot);
      across.push_back((y[0] * direction_[1] - y[1] * direction_[0]) / norm);
      radius.push_back(squares);
    }
    const auto chi = [](double x) { return chi_squared_cdf(x, kWidth); };
    return {bonferroni({ks_p(along, normal_cdf), ks_p(across, normal_cdf), ks_p(radius, chi)}),
            static_cast<double>(accepted) / static_cast<double>(count)};
  }

  StepRule by(Verifier verifier) const {
    return [this, verifier](const DraftedStep& step, RandomStream& random) {
      StreamSource source(random);
      const Verdict verdict = verify(verifier, chain(step.z), source);
      return verdict.accepted_tokens == 1 ? std::pair(true, draft_outcome(step.z)) : std::pair(false, around_target(verdict.state));
    };
  }

 private:
  double gap_;
  std::vector<SamplerStep> steps_ = {{0.5f, 0.7f, 0.4f, 0.3f}};
  std::vector<double> direction_ = std::vector<double>(kWidth);
  std::vector<float> x_ = std::vector<float>(kWidth), v_q_ = x_, v_p_ = x_;
};

TEST(Residual, OneStepHasTheTargetsLaw) {
  const int64_t count = samples(200000);
  for (double gap : {0.25, 1.0, 2.0}) {
    const double expected = 2.0 * normal_cdf(-gap / 2.0);
    const OneStep step(gap);
    for (Verifier verifier : {Verifier::kStepwise, Verifier::kChain}) {
      const auto [p, acceptance] = step.measure(count, 11, step.by(verifier));
      EXPECT_GT(p, kPass) << "gap " << gap;
      EXPECT_TRUE(near_share(acceptance, expected, static_cast<double>(count))) << "gap " << gap << ": " << acceptance << ", expected " << expected;
    }
  }
}

// ---- wrong variants that the check must find ----

// Reflection needs equal covariances. Here the target's noise is 1.3 times the draft's.
TEST(ResidualControls, ReflectionOfUnequalNoiseIsFound) {
  RandomStream random(12);
  std::vector<double> along;
  constexpr double kGap = 0.8, kWide = 1.3;
  for (int64_t n = 0; n < full_samples(40000); ++n) {
    const double z = random.normal(), target = (z - kGap) / kWide;
    const double log_ratio = 0.5 * z * z - 0.5 * target * target - std::log(kWide);
    along.push_back(std::log(random.uniform()) < log_ratio ? target : -z);
  }
  EXPECT_LT(ks_p(along, normal_cdf), kCaught);
}

TEST(ResidualControls, FreshTargetSampleOnRejectionIsFound) {
  const OneStep step(0.8);
  const auto [p, acceptance] = step.measure(full_samples(60000), 13, [&](const DraftedStep& drafted, RandomStream& random) {
    if (std::log(drafted.uniform) < drafted.letter.log_ratio) return std::pair(true, step.draft_outcome(drafted.z));
    State fresh(kWidth);
    for (double& value : fresh) value = random.normal();
    return std::pair(false, fresh);
  });
  EXPECT_LT(p, kCaught);
  EXPECT_TRUE(near_share(acceptance, 2.0 * normal_cdf(-0.4), static_cast<double>(full_samples(60000))));
}

// Densities with 42 times the noise accept everything, and the draft's own law comes out.
TEST(ResidualControls, InflatedNoiseInTheTestIsFound) {
  const OneStep step(0.8);
  const auto [p, acceptance] = step.measure(full_samples(40000), 14, [&](const DraftedStep& drafted, RandomStream& random) {
    const double squares = drafted.letter.gap * drafted.letter.gap, along = drafted.letter.log_ratio + 0.5 * squares;
    constexpr double kInflation = 42.0;
    const double log_ratio = (along - 0.5 * squares) / (kInflation * kInflation);
    State fresh(kWidth);
    for (double& value : fresh) value = random.normal();
    return std::log(drafted.uniform) < log_ratio ? std::pair(true, step.draft_outcome(drafted.z)) : std::pair(false, fresh);
  });
  EXPECT_LT(p, kCaught);
  EXPECT_GT(acceptance, 0.99);
}

// ---- the one-dimensional residual ----

// P(S ≤ s) of the density (p φ(s - d) - φ(s))₊.
double residual_cdf(double log_p, double d, double s) {
  const double s0 = 0.5 * d - log_p / d, p = std::exp(log_p);
  if (s <= s0) return 0.0;
  return 1.0 - (p * normal_cdf(d - s) - normal_cdf(-s)) / residual_mass(log_p, d);
}

TEST(Residual, CoordinateHasItsDensity) {
  RandomStream random(15);
  for (double d : {0.001, 0.05, 0.3, 0.999, 1.0, 2.0, 5.0}) {
    for (double slope : {0.0, -0.1, -0.9, -1.4, -3.0}) {  // log_p / d: a step's log ratio is d times a normal number
      const double log_p = slope * d;
      StreamSource source(random);
      const int64_t count = samples(30000);
      std::vector<double> s;
      for (int64_t i = 0; i < count; ++i) s.push_back(residual_coordinate(log_p, d, 0, 0, source));
      const auto cdf = [&](double x) { return residual_cdf(log_p, d, x); };
      EXPECT_GT(bonferroni({ks_p(s, cdf), histogram_p(s, cdf, 40)}), kPass) << "d " << d << ", log p " << log_p;
      EXPECT_LT(static_cast<double>(source.proposals) / static_cast<double>(count), 5.5) << "d " << d << ", log p " << log_p;
    }
  }
}

// One that takes the wrong side of the cut, or forgets p, is another law.
TEST(ResidualControls, CoordinateOfAnotherMassIsFound) {
  RandomStream random(16);
  StreamSource source(random);
  std::vector<double> s;
  for (int64_t i = 0; i < full_samples(4000); ++i) s.push_back(residual_coordinate(-0.6, 1.0, 0, 0, source));
  EXPECT_LT(ks_p(s, [](double x) { return residual_cdf(0.0, 1.0, x); }), kCaught);
}

TEST(Residual, Mass) {
  EXPECT_EQ(residual_mass(0.0, 0.0), 0.0);
  EXPECT_EQ(residual_mass(-0.5, 0.0), 0.0);
  EXPECT_NEAR(residual_mass(0.0, 1.0), 2.0 * normal_cdf(0.5) - 1.0, 1e-15);
  EXPECT_NEAR(residual_mass(0.0, 1e-9), 1e-9 * 0.3989422804014327, 1e-22);
  EXPECT_NEAR(residual_mass(-0.7, INFINITY), std::exp(-0.7), 1e-15);
  EXPECT_EQ(residual_mass(-INFINITY, 1.0), 0.0);
  for (double d : {0.1, 1.0, 3.0}) {  // against the integral itself
    for (double log_p : {-0.01, -0.3, -2.0}) {
      double sum = 0.0;
      const double p = std::exp(log_p), dx = 1e-4;
      for (double x = -9.0; x < 12.0; x += dx) {
        sum += std::max(0.0, p * std::exp(-0.5 * (x - d) * (x - d)) - std::exp(-0.5 * x * x)) * dx / std::sqrt(2.0 * M_PI);
      }
      EXPECT_NEAR(residual_mass(log_p, d), sum, 1e-7) << "d " << d << ", log p " << log_p;
    }
  }
}

// A draft whose velocity is not a number is replaced by a plain draw of the target.
TEST(Residual, OfAnInfiniteGapIsTheTarget) {
  RandomStream random(17);
  const std::vector<SamplerStep> steps = {{0.5f, 0.7f, 0.4f, 0.3f}};
  const std::vector<float> x(kWidth, 1.0f), z(kWidth, 0.5f), v_p(kWidth, 2.0f), v_q(kWidth, NAN);
  std::vector<double> numbers;
  for (int64_t n = 0; n < samples(2000); ++n) {
    StreamSource source(random);
    const Verdict verdict = verify(Verifier::kChain, {steps, 1, kWidth, x.data(), z.data(), v_q.data(), v_p.data()}, source);
    ASSERT_EQ(verdict.accepted_tokens, 0);
    ASSERT_EQ(verdict.next_step, 1);
    for (float value : verdict.state) numbers.push_back((static_cast<double>(value) - 1.5) / 0.3);
  }
  EXPECT_GT(ks_p(numbers, normal_cdf), kPass);
}

}  // namespace
}  // namespace ardiff::test
