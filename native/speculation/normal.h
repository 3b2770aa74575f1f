// The standard normal distribution in double: what acceptance and residual are made of.
#pragma once

namespace ardiff::speculation {

// Φ(x), relative error below 1e-14 down to the smallest doubles (x ≈ -38); 0 below.
double normal_cdf(double x);

// log Φ(x), relative error below 1e-12 for every x.
double log_normal_cdf(double x);

// Φ⁻¹(p), p in (0, 1): absolute error below 1e-12 for p ≤ 1/2 and wherever 1 - p is exact. 0 and 1 give ∓infinity.
double normal_quantile(double p);

}  // namespace ardiff::speculation
