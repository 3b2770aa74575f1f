// The statistics of the other tests on samples whose law is known, right and wrong.
#include "support/statistics.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "speculation/normal.h"
#include "support/random_stream.h"

namespace ardiff::test {
namespace {

std::vector<double> normals(uint64_t seed, size_t count, double shift = 0.0) {
  RandomStream random(seed);
  std::vector<double> out(count);
  for (double& value : out) value = random.normal() + shift;
  return out;
}

TEST(Statistics, KnownValues) {
  EXPECT_NEAR(chi_squared_cdf(3.841458820694124, 1), 0.95, 1e-12);
  EXPECT_NEAR(chi_squared_p(16.918977604620448, 9), 0.05, 1e-12);
  double poisson = 0.0, term = std::exp(-100.0);  // of even degrees: e^(-x/2) times the first terms of e^(x/2)
  for (int k = 0; k < 8; term *= 100.0 / ++k) poisson += term;
  EXPECT_NEAR(chi_squared_p(200.0, 16) / poisson, 1.0, 1e-10);
  EXPECT_DOUBLE_EQ(ks_distance({1, 2, 3}, {4, 5}), 1.0);
  EXPECT_DOUBLE_EQ(ks_distance({1, 2, 3, 4}, {1, 2, 3, 4}), 0.0);
  EXPECT_DOUBLE_EQ(ks_distance({1, 3}, {2, 4}), 0.5);
  // A sample on the quantiles (i + 1/2) / n of the uniform law, moved by 1.358 / sqrt(n): the law's 5 % point.
  std::vector<double> moved;
  for (int i = 0; i < 10000; ++i) moved.push_back((i + 0.5) / 10000.0 + 0.01358);
  EXPECT_NEAR(ks_p(moved, [](double x) { return std::min(x, 1.0); }), 0.05, 2e-3);
  EXPECT_EQ(bonferroni({0.5, 0.01, 0.9}), 0.03);
}

TEST(Statistics, PValuesOfTheRightLawAreUniform) {
  std::vector<double> one, two, cells;
  for (uint64_t i = 0; i < 400; ++i) {
    const auto a = normals(i, 300), b = normals(1000 + i, 300);
    one.push_back(ks_p(a, speculation::normal_cdf));
    two.push_back(ks_two_sample_p(a, b));
    cells.push_back(histogram_p(a, speculation::normal_cdf, 10));
  }
  const auto uniform = [](double x) { return x; };
  EXPECT_GT(ks_p(one, uniform), 1e-3);
  EXPECT_GT(ks_p(two, uniform), 1e-3);
  EXPECT_GT(ks_p(cells, uniform), 1e-3);
}

TEST(Statistics, WrongLawsAreFound) {
  const auto a = normals(1, 20000), shifted = normals(2, 20000, 0.08);
  EXPECT_LT(ks_p(shifted, speculation::normal_cdf), kCaught);
  EXPECT_LT(ks_two_sample_p(a, shifted), kCaught);
  EXPECT_LT(histogram_p(shifted, speculation::normal_cdf, 20), kCaught);
}

// Pairs with the same marginals, correlated or not: what a test of single coordinates cannot see.
TEST(Statistics, EnergySeesTheJointLaw) {
  RandomStream random(3);
  const auto pairs = [&](double correlation) {
    std::vector<double> out;
    for (int i = 0; i < 300; ++i) {
      const double x = random.normal();
      out.push_back(x);
      out.push_back(correlation * x + std::sqrt(1.0 - correlation * correlation) * random.normal());
    }
    return out;
  };
  const auto a = pairs(0.9);
  EXPECT_GT(energy_p(a, pairs(0.9), 2, 300), 0.01);
  EXPECT_LT(energy_p(a, pairs(0.0), 2, 300), kEnergyPass);
}

}  // namespace
}  // namespace ardiff::test
