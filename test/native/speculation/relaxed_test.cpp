// Statistics of the relaxed rules on vectors worked out by hand, and the bound of lenient acceptance by quadrature.
#include "speculation/relaxed.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "base/error.h"
#include "speculation/normal.h"

namespace ardiff::speculation {
namespace {

TEST(Relaxed, PathGap) {
  const std::vector<Letter> letters = {{3.0, 0.1}, {4.0, -2.0}, {0.0, 0.0}};
  EXPECT_DOUBLE_EQ(path_gap(letters), 5.0);
  EXPECT_EQ(path_gap({}), 0.0);
}

TEST(Relaxed, JumpGapIsTheDistanceOfTheDataEstimates) {
  const std::vector<float> v_p = {1.0f, 2.0f, 3.0f, 4.0f}, v_q = {1.5f, 2.5f, 3.5f, 4.5f};
  EXPECT_DOUBLE_EQ(jump_gap(0.0, v_p, v_q), 0.5);
  EXPECT_DOUBLE_EQ(jump_gap(0.75, v_p, v_q), 0.125);
  EXPECT_EQ(jump_gap(0.0, v_p, v_p), 0.0);
}

TEST(Relaxed, OfAPathTheLargestJumpCounts) {
  const std::vector<float> v_p = {1.0f, 1.0f, 2.0f, 2.0f, 3.0f, 3.0f}, v_q = {1.5f, 0.5f, 4.0f, 0.0f, 3.0f, 3.0f};
  const std::vector<double> t = {0.0, 0.5, 0.9}, later = {0.0, 0.9, 0.5};
  EXPECT_DOUBLE_EQ(largest_jump_gap(t, 2, v_p.data(), v_q.data()), 1.0);
  EXPECT_DOUBLE_EQ(largest_jump_gap(later, 2, v_p.data(), v_q.data()), 0.5);
  std::vector<float> broken = v_q;
  broken[3] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_EQ(accepted_prefix(std::vector{largest_jump_gap(t, 2, v_p.data(), broken.data())}, 1e30), 0) << "not a number, though a number follows";
}

TEST(Relaxed, FeatureAndTokenGaps) {
  const std::vector<float> c = {3.0f, 4.0f, 0.0f, 1.0f}, drafted = {3.0f, 3.0f, 1.0f, 1.0f};
  EXPECT_DOUBLE_EQ(feature_gap(c, drafted, 2), (1.0 / 5.0 + 1.0 / 1.0) / 2.0);
  EXPECT_DOUBLE_EQ(feature_gap(c, drafted, 1), std::sqrt(2.0 / 26.0));
  EXPECT_DOUBLE_EQ(token_gap(c, drafted), std::sqrt(2.0 / 4.0));
  EXPECT_THROW(token_gap(c, std::vector<float>(3)), Error);
}

TEST(Relaxed, OnlyAPrefixIsAccepted) {
  const std::vector<double> statistics = {0.1, 0.2, 0.9, 0.1};
  EXPECT_EQ(accepted_prefix(statistics, 0.5), 2);
  EXPECT_EQ(accepted_prefix(statistics, 0.2), 2);
  EXPECT_EQ(accepted_prefix(statistics, 0.15), 1);
  EXPECT_EQ(accepted_prefix(statistics, 1.0), 4);
  EXPECT_EQ(accepted_prefix(statistics, 0.0), 0);
  EXPECT_EQ(accepted_prefix(std::vector<double>{0.0, 1e-300}, 0.0), 1) << "equal to the bit is no deviation";
  EXPECT_EQ(accepted_prefix(std::vector<double>{NAN, 0.0}, 10.0), 0);
  EXPECT_EQ(accepted_prefix({}, 1.0), 0);
}

// q = N(0, 1), p = N(1, 1): law of what lenient acceptance and its residual emit, on a grid.
TEST(Relaxed, LenienceIsOffByAtMostItsExtraAcceptance) {
  constexpr double kStep = 1e-3, kGap = 1.0;
  const auto density = [](double x) { return std::exp(-0.5 * x * x) / std::sqrt(2.0 * M_PI); };
  const double residual_total = 2.0 * normal_cdf(0.5 * kGap) - 1.0;
  for (double lenience : {1.0, 0.7, 0.4, 0.1}) {
    double accepted = 0.0, bias = 0.0;
    for (double x = -9.0; x < 10.0; x += kStep) {
      const LenientTest test = lenient_test(kGap * x - 0.5 * kGap * kGap, lenience);
      accepted += density(x) * test.acceptance * kStep;
      bias += density(x) * test.bias * kStep;
    }
    double variation = 0.0;
    for (double x = -9.0; x < 10.0; x += kStep) {
      const double q = density(x), p = density(x - kGap);
      const double emitted = q * lenient_test(kGap * x - 0.5 * kGap * kGap, lenience).acceptance + (1.0 - accepted) * std::max(0.0, p - q) / residual_total;
      variation += 0.5 * std::abs(emitted - p) * kStep;
    }
    EXPECT_LE(variation, bias + 1e-6) << "lenience " << lenience;
    EXPECT_NEAR(bias, accepted - 2.0 * normal_cdf(-0.5 * kGap), 1e-6) << "lenience " << lenience;
    if (lenience == 1.0) { EXPECT_EQ(bias, 0.0); }
    if (lenience < 1.0) { EXPECT_GT(variation, 0.01) << "lenience " << lenience; }
  }
  EXPECT_THROW(lenient_test(0.0, 0.0), Error);
  EXPECT_THROW(lenient_test(0.0, 1.1), Error);
}

}  // namespace
}  // namespace ardiff::speculation
