// Philox 4x32-10 (Salmon et al., SC 2011): four random words from a counter and a key, no state.
// How counters are made of (timestep, purpose, token, attempt): docs/contract.md, Randomness.
#pragma once

#include <array>
#include <cstdint>

namespace ardiff {

using PhiloxWords = std::array<uint32_t, 4>;
using PhiloxKey = std::array<uint32_t, 2>;

inline PhiloxWords philox4x32(PhiloxWords c, PhiloxKey k) {
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
inline double philox_uniform(uint32_t word) { return (static_cast<double>(word) + 0.5) * 0x1p-32; }

}  // namespace ardiff
