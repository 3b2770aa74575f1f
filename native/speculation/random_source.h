// The random numbers of a verification. Purposes are numbers of their own (docs/contract.md, Randomness), so nothing
// here was ever seen by the draft: acceptance is independent of what made the states.
#pragma once

#include <array>
#include <cstdint>
#include <span>

namespace ardiff::speculation {

// Tokens are counted within the chain (0 = first draft of the round), steps within the token. The same arguments give
// the same numbers, in whatever order they are asked for.
class RandomSource {
 public:
  virtual ~RandomSource() = default;
  // u of the test after step `step`, in (0, 1). V3 has one test a token and asks for step 0.
  virtual double accept_uniform(int64_t token, int64_t step) = 0;
  // Proposal number `proposal` of the residual at this step: four independent uniforms in (0, 1).
  virtual std::array<double, 4> residual_uniforms(int64_t token, int64_t step, uint32_t proposal) = 0;
  // Standard normals of the directions orthogonal to the gap at this step.
  virtual void orthogonal_normals(int64_t token, int64_t step, std::span<double> out) = 0;
};

}  // namespace ardiff::speculation
