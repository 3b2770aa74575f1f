// The random numbers of one step of a drafted token, by counter (docs/contract.md, Randomness): the same on the host and on a device.
//
//   use                 counter (block, timestep | purpose << 16, token, attempt)          numbers taken
//   accept_uniform      (0, step | 2 << 16, image token, attempt of that token)            word 0
//   residual_uniforms   (proposal, step | 3 << 16, image token, attempt)                   words 0 … 3
//   orthogonal_normals  (i div 4, step | 4 << 16, image token, attempt)                    normal i mod 4
#pragma once

#include "backend/philox.h"

namespace ardiff::speculation {

struct PhiloxCounters {
  PhiloxKey seed;  // low word, high word
  uint32_t image_token;
  uint32_t attempt;
  uint32_t step;

  ARDIFF_HD double accept_uniform() const { return philox_uniform(words(0, 2)[0]); }
  ARDIFF_HD std::array<double, 4> residual_uniforms(uint32_t proposal) const {
    const PhiloxWords w = words(proposal, 3);
    return {philox_uniform(w[0]), philox_uniform(w[1]), philox_uniform(w[2]), philox_uniform(w[3])};
  }
  // Numbers 4 block … 4 block + 3 of the vector.
  ARDIFF_HD std::array<double, 4> orthogonal_normals(uint32_t block) const { return philox_normals(words(block, 4)); }

 private:
  ARDIFF_HD PhiloxWords words(uint32_t block, uint32_t purpose) const { return philox4x32({block, step | purpose << 16, image_token, attempt}, seed); }
};

}  // namespace ardiff::speculation
