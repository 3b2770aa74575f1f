#include "support/statistics.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <numeric>

#include "support/random_stream.h"

namespace ardiff::test {

namespace {

// Regularised lower incomplete gamma function: series below the peak, continued fraction (modified Lentz) above.
double lower_gamma(double s, double x, bool upper) {
  if (x <= 0.0) return upper ? 1.0 : 0.0;
  const double front = std::exp(s * std::log(x) - x - std::lgamma(s));
  if (x < s + 1.0) {
    double term = 1.0 / s, sum = term;
    for (int i = 1; i < 10000 && term > sum * 1e-17; ++i) sum += term *= x / (s + i);
    return upper ? 1.0 - front * sum : front * sum;
  }
  constexpr double kTiny = 1e-300;
  double b = x + 1.0 - s, c = 1.0 / kTiny, d = 1.0 / b, h = d;
  for (int i = 1; i < 10000; ++i) {
    const double an = -i * (i - s);
    b += 2.0;
    d = 1.0 / (std::abs(an * d + b) < kTiny ? kTiny : an * d + b);
    c = std::abs(b + an / c) < kTiny ? kTiny : b + an / c;
    h *= d * c;
    if (std::abs(d * c - 1.0) < 1e-16) break;
  }
  return upper ? front * h : 1.0 - front * h;
}

// Asymptotic law of sqrt(n) D with Stephens' correction for finite n.
double kolmogorov_p(double distance, double n) {
  const double lambda = (std::sqrt(n) + 0.12 + 0.11 / std::sqrt(n)) * distance;
  if (lambda < 0.3) return 1.0;  // p > 1 - 1e-5
  double sum = 0.0;
  for (int j = 1; j <= 100; ++j) sum += (j % 2 == 1 ? 2.0 : -2.0) * std::exp(-2.0 * j * j * lambda * lambda);
  return std::clamp(sum, 0.0, 1.0);
}

}  // namespace

bool long_tests() {
  const char* set = std::getenv("ARDIFF_LONG_TESTS");
  return set && std::strcmp(set, "0") != 0 && *set;
}

int64_t full_samples(int64_t count) { return long_tests() ? 10 * count : count; }

int64_t samples(int64_t count) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  return count / 4;
#else
  return full_samples(count);
#endif
}

double chi_squared_cdf(double x, double degrees) { return lower_gamma(0.5 * degrees, 0.5 * x, false); }
double chi_squared_p(double statistic, double degrees) { return lower_gamma(0.5 * degrees, 0.5 * statistic, true); }

double ks_p(std::vector<double> sample, const std::function<double(double)>& cdf) {
  std::sort(sample.begin(), sample.end());
  const auto n = static_cast<double>(sample.size());
  double distance = 0.0;
  for (size_t i = 0; i < sample.size(); ++i) {
    const double f = cdf(sample[i]);
    distance = std::max({distance, f - static_cast<double>(i) / n, static_cast<double>(i + 1) / n - f});
  }
  return kolmogorov_p(distance, n);
}

double ks_distance(std::vector<double> a, std::vector<double> b) {
  std::sort(a.begin(), a.end());
  std::sort(b.begin(), b.end());
  double distance = 0.0;
  size_t i = 0, j = 0;
  while (i < a.size() && j < b.size()) {
    const double at = std::min(a[i], b[j]);
    while (i < a.size() && a[i] <= at) ++i;
    while (j < b.size() && b[j] <= at) ++j;
    distance = std::max(distance, std::abs(static_cast<double>(i) / static_cast<double>(a.size()) - static_cast<double>(j) / static_cast<double>(b.size())));
  }
  return distance;
}

double ks_two_sample_p(std::vector<double> a, std::vector<double> b) {
  const auto n = static_cast<double>(a.size()), m = static_cast<double>(b.size());
  return kolmogorov_p(ks_distance(std::move(a), std::move(b)), n * m / (n + m));
}

double histogram_p(const std::vector<double>& sample, const std::function<double(double)>& cdf, int bins) {
  std::vector<double> counts(static_cast<size_t>(bins), 0.0);
  for (double value : sample) counts[static_cast<size_t>(std::clamp(static_cast<int>(cdf(value) * bins), 0, bins - 1))] += 1.0;
  const double expected = static_cast<double>(sample.size()) / bins;
  double statistic = 0.0;
  for (double count : counts) statistic += (count - expected) * (count - expected) / expected;
  return chi_squared_p(statistic, bins - 1);
}

double energy_p(const std::vector<double>& a, const std::vector<double>& b, size_t width, size_t rows, int permutations) {
  rows = std::min({rows, a.size() / width, b.size() / width});
  const size_t n = 2 * rows;
  const auto row = [&](size_t i) { return i < rows ? &a[i * width] : &b[(i - rows) * width]; };
  std::vector<float> distances(n * n, 0.0f);  // above the diagonal
  for (size_t i = 0; i < n; ++i) {
    for (size_t j = i + 1; j < n; ++j) {
      double squares = 0.0;
      for (size_t c = 0; c < width; ++c) squares += (row(i)[c] - row(j)[c]) * (row(i)[c] - row(j)[c]);
      distances[i * n + j] = static_cast<float>(std::sqrt(squares));
    }
  }
  // Up to a constant factor the energy distance is minus the sum of distances signed + within and - between samples.
  std::vector<float> labels(n);
  for (size_t i = 0; i < n; ++i) labels[i] = i < rows ? 1.0f : -1.0f;
  const auto statistic = [&] {
    double sum = 0.0;
    for (size_t i = 0; i < n; ++i) {
      float lanes[16] = {};
      size_t j = i + 1;
      for (; j + 16 <= n; j += 16) {
        for (size_t l = 0; l < 16; ++l) lanes[l] += labels[j + l] * distances[i * n + j + l];
      }
      double part = std::accumulate(lanes, lanes + 16, 0.0);
      for (; j < n; ++j) part += static_cast<double>(labels[j] * distances[i * n + j]);
      sum -= part * static_cast<double>(labels[i]);
    }
    return sum;
  };
  const double measured = statistic();
  RandomStream random(0xE4E26);
  int as_large = 1;
  for (int p = 0; p < permutations; ++p) {
    for (size_t i = n - 1; i > 0; --i) std::swap(labels[i], labels[static_cast<size_t>(random.uniform() * static_cast<double>(i + 1))]);
    if (statistic() >= measured) ++as_large;
  }
  return as_large / (permutations + 1.0);
}

double bonferroni(const std::vector<double>& p_values) {
  return std::min(1.0, *std::min_element(p_values.begin(), p_values.end()) * static_cast<double>(p_values.size()));
}

bool near_mean(double measured, double expected, double deviation, double n) {
  return std::abs(measured - expected) <= 4.5 * deviation / std::sqrt(n);
}

bool near_share(double measured, double expected, double n) {
  const double p = std::clamp(expected, 1.0 / n, 1.0 - 1.0 / n);
  return near_mean(measured, expected, std::sqrt(p * (1.0 - p)), n);
}

}  // namespace ardiff::test
