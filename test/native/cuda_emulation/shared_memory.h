// The shared memory of a cluster's blocks (shared_memory.cpp), as emulation.cpp tells it of launches.
#pragma once

#include <cstddef>

namespace emulation {

void begin_shared(unsigned blocks, size_t dynamic_bytes);  // for a launch: nothing is declared yet
void clear_shared();                                       // for the next blocks of it

}  // namespace emulation
