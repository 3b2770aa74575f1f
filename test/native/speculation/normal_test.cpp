// Known values (Abramowitz & Stegun; mpmath with 30 digits) and the round trip of the inverse.
#include "speculation/normal.h"

#include <gtest/gtest.h>

#include <cmath>

namespace ardiff::speculation {
namespace {

TEST(Normal, DistributionFunction) {
  EXPECT_DOUBLE_EQ(normal_cdf(0.0), 0.5);
  EXPECT_NEAR(normal_cdf(1.0), 0.841344746068542949, 1e-15);
  EXPECT_NEAR(normal_cdf(-3.0) / 1.34989803163009453e-3, 1.0, 1e-13);
  EXPECT_NEAR(normal_cdf(-10.0) / 7.61985302416052606e-24, 1.0, 1e-12);
  EXPECT_NEAR(normal_cdf(-37.0) / 5.72557122252458e-300, 1.0, 1e-12);
  EXPECT_EQ(normal_cdf(-INFINITY), 0.0);
  EXPECT_EQ(normal_cdf(INFINITY), 1.0);
}

TEST(Normal, Quantile) {
  EXPECT_EQ(normal_quantile(0.5), 0.0);
  EXPECT_NEAR(normal_quantile(0.975), 1.95996398454005423, 1e-13);
  EXPECT_NEAR(normal_quantile(1e-10), -6.36134090240406057, 1e-12);
  EXPECT_NEAR(normal_quantile(1e-300), -37.0471, 1e-4);
  EXPECT_EQ(normal_quantile(0.0), -INFINITY);
  EXPECT_EQ(normal_quantile(1.0), INFINITY);
  for (double x = -36.0; x <= 5.0; x += 0.0137) {
    const double allowed = 1e-12 * std::max(1.0, std::abs(x)) + (x > 0.0 ? 1e-16 / std::exp(-0.5 * x * x) : 0.0);
    EXPECT_NEAR(normal_quantile(normal_cdf(x)), x, allowed);
  }
}

}  // namespace
}  // namespace ardiff::speculation
