// What normal numbers are drawn for: bits 16 and up of the second word of their Philox counter, beside the timestep (docs/contract.md).
// Those of speculation are in speculation/philox_counters.h.
#pragma once

#include <cstdint>

namespace ardiff {

constexpr uint32_t kPurposeInitialNoise = 0;
constexpr uint32_t kPurposeTimestepNoise = 1;

}  // namespace ardiff
