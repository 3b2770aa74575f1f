// The emulated device's memory, for tests that run out of it. No other header of the emulation is needed.
#pragma once

#include <cstddef>

namespace emulation {

void limit_memory(size_t bytes);  // 8 GiB until it is set
size_t used_memory();

}  // namespace emulation
