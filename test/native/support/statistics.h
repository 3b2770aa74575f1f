// Tests of whether a sample has a law, or two samples have one: what the exactness tests of speculation stand on.
// p-values: uniform on (0, 1) when the laws agree, tiny when they do not.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

namespace ardiff::test {

// A correct build passes at kPass on fixed seeds; a deliberately wrong variant must fail by more than kCaught.
inline constexpr double kPass = 1e-5;
inline constexpr double kCaught = 1e-6;

// How many samples: `count` in CI, ten times that with ARDIFF_LONG_TESTS=1.
int64_t full_samples(int64_t count);
// The same, but a quarter under a sanitizer, which looks for other things than small deviations. For tests that fewer
// samples only make more forgiving: neither controls nor figures with a fixed tolerance.
int64_t samples(int64_t count);
bool long_tests();

// χ² with `degrees` degrees of freedom: P(X ≤ x) and P(X > x).
double chi_squared_cdf(double x, double degrees);
double chi_squared_p(double statistic, double degrees);

// Kolmogorov-Smirnov against a continuous distribution function, and of two samples.
double ks_p(std::vector<double> sample, const std::function<double(double)>& cdf);
double ks_two_sample_p(std::vector<double> a, std::vector<double> b);
// Largest distance of the two empirical distribution functions.
double ks_distance(std::vector<double> a, std::vector<double> b);

// Pearson's χ² of counts in `bins` cells of equal probability under cdf.
double histogram_p(const std::vector<double>& sample, const std::function<double(double)>& cdf, int bins);

// Permutation p-value of the energy distance of two samples of rows (`width` numbers each), at most `rows` of each.
// Its smallest value is 1 / (permutations + 1): the statistic is above that of every permutation.
double energy_p(const std::vector<double>& a, const std::vector<double>& b, size_t width, size_t rows, int permutations = 999);
inline constexpr double kEnergyPass = 1.5 / 1000.0;

// One p-value for several.
double bonferroni(const std::vector<double>& p_values);

// Within 4.5 standard errors of a mean of n numbers with that standard deviation.
bool near_mean(double measured, double expected, double deviation, double n);
// The same for a share.
bool near_share(double measured, double expected, double n);

}  // namespace ardiff::test
