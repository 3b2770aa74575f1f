// The standard normal distribution in double: what acceptance and residual are made of.
#pragma once

namespace ardiff::speculation {

// Φ(x), relative error below 1e-12 down to x = -37; 0 below -38.6.
double normal_cdf(double x);

// Φ⁻¹(p): error below 1e-12 max(1, |x|) for p in [1e-300, 1 - 1e-16]; 0 and 1 give ∓infinity.
double normal_quantile(double p);

}  // namespace ardiff::speculation
