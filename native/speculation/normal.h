// The standard normal distribution in double: what acceptance and residual are made of.
#pragma once

#include <cmath>
#include <limits>
#include <numbers>

#include "backend/host_device.h"

namespace ardiff::speculation {

// Φ(x), relative error below 1e-12 down to x = -37; 0 below -38.6.
ARDIFF_HD inline double normal_cdf(double x) { return 0.5 * std::erfc(-x / std::numbers::sqrt2); }

namespace detail {

// Acklam's rational approximation for p in (0, 1/2], relative error 1.15e-9.
ARDIFF_HD inline double rough_quantile(double p) {
  constexpr double a[] = {-3.969683028665376e+01, 2.209460984245205e+02, -2.759285104469687e+02, 1.383577518672690e+02, -3.066479806614716e+01,
                          2.506628277459239e+00};
  constexpr double b[] = {-5.447609879822406e+01, 1.615858368580409e+02, -1.556989798598866e+02, 6.680131188771972e+01, -1.328068155288572e+01};
  constexpr double c[] = {-7.784894002430293e-03, -3.223964580411365e-01, -2.400758277161838e+00, -2.549732539343734e+00, 4.374664141464968e+00,
                          2.938163982698783e+00};
  constexpr double d[] = {7.784695709041462e-03, 3.224671290700398e-01, 2.445134137142996e+00, 3.754408661907416e+00};
  if (p < 0.02425) {
    const double q = std::sqrt(-2.0 * std::log(p));
    return (((((c[0] * q + c[1]) * q + c[2]) * q + c[3]) * q + c[4]) * q + c[5]) /
           ((((d[0] * q + d[1]) * q + d[2]) * q + d[3]) * q + 1.0);
  }
  const double q = p - 0.5, r = q * q;
  return (((((a[0] * r + a[1]) * r + a[2]) * r + a[3]) * r + a[4]) * r + a[5]) * q /
         (((((b[0] * r + b[1]) * r + b[2]) * r + b[3]) * r + b[4]) * r + 1.0);
}

}  // namespace detail

// Φ⁻¹(p): error below 1e-12 max(1, |x|) for p in [1e-300, 1 - 1e-16]; 0 and 1 give ∓infinity.
ARDIFF_HD inline double normal_quantile(double p) {
  const bool upper = p > 0.5;
  const double tail = upper ? 1.0 - p : p;
  if (tail <= 0.0) return upper ? std::numeric_limits<double>::infinity() : -std::numeric_limits<double>::infinity();
  double x = detail::rough_quantile(tail);
  // One Halley step triples the number of right digits; the second is for the digits that erfc loses in the tail.
  for (int i = 0; i < 2; ++i) {
    const double density = std::exp(-0.5 * x * x) / std::sqrt(2.0 * std::numbers::pi);
    const double u = (normal_cdf(x) - tail) / density;
    x -= u / (1.0 + 0.5 * x * u);
  }
  return upper ? -x : x;
}

}  // namespace ardiff::speculation
