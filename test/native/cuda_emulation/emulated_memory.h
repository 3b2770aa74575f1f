// The emulated device's memory, for tests that run out of it. No other header of the emulation is needed.
#pragma once

#include <cstddef>

namespace emulation {

void limit_memory(size_t bytes);  // 8 GiB until it is set
size_t used_memory();
void set_memory_of_a_launch(size_t bytes);  // in a graph; 4 KiB until it is set

}  // namespace emulation
