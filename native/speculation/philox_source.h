// RandomSource of the engine: Philox counters keyed by (seed, token, attempt, purpose, timestep), see docs/contract.md.
// Which numbers: philox_counters.h.
//
// `attempt` is the one its draft was drawn with. What continues a corrected token draws its timestep noise (purpose 1)
// with the next attempt: the verifier has looked at this one's.
#pragma once

#include <vector>

#include "speculation/philox_counters.h"
#include "speculation/random_source.h"

namespace ardiff::speculation {

class PhiloxSource final : public RandomSource {
 public:
  // attempts[j]: of the chain's token j, which is image token first_token + j.
  PhiloxSource(uint64_t seed, int64_t first_token, std::vector<uint32_t> attempts);

  double accept_uniform(int64_t token, int64_t step) override;
  std::array<double, 4> residual_uniforms(int64_t token, int64_t step, uint32_t proposal) override;
  void orthogonal_normals(int64_t token, int64_t step, std::span<double> out) override;

 private:
  PhiloxCounters counters(int64_t token, int64_t step) const;

  uint64_t seed_;
  int64_t first_token_;
  std::vector<uint32_t> attempts_;
};

}  // namespace ardiff::speculation
