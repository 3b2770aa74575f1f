// Philox 4x32-10 (Salmon et al., SC 2011): four random words from a counter and a key, no state.
// How counters are made of (timestep, purpose, token, attempt): docs/contract.md, Randomness.
#pragma once

#include <array>
#include <cmath>
#include <cstdint>
#include <numbers>

#include "backend/host_device.h"

namespace ardiff {

using PhiloxWords = std::array<uint32_t, 4>;
using PhiloxKey = std::array<uint32_t, 2>;

ARDIFF_HD inline PhiloxWords philox4x32(PhiloxWords c, PhiloxKey k) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = uint64_t{0xD2511F53u} * c[0];
    const uint64_t p1 = uint64_t{0xCD9E8D57u} * c[2];
    c = {static_cast<uint32_t>(p1 >> 32) ^ c[1] ^ k[0], static_cast<uint32_t>(p1), static_cast<uint32_t>(p0 >> 32) ^ c[3] ^ k[1],
         static_cast<uint32_t>(p0)};
    k[0] += 0x9E3779B9u;
    k[1] += 0xBB67AE85u;
  }
  return c;
}

// In (0, 1), never 0 or 1.
ARDIFF_HD inline double philox_uniform(uint32_t word) { return (static_cast<double>(word) + 0.5) * 0x1p-32; }

// Standard normals of one block: Box-Muller on words (0, 1) and (2, 3), cosine first.
ARDIFF_HD inline std::array<double, 4> philox_normals(const PhiloxWords& words) {
  std::array<double, 4> out;
  for (size_t pair = 0; pair < 4; pair += 2) {
    const double radius = std::sqrt(-2.0 * std::log(philox_uniform(words[pair])));
    const double angle = 2.0 * std::numbers::pi * philox_uniform(words[pair + 1]);
    out[pair] = radius * std::cos(angle);
    out[pair + 1] = radius * std::sin(angle);
  }
  return out;
}

}  // namespace ardiff
