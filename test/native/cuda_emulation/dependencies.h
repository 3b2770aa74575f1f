// What a dependent launch may see of the launch before it (dependencies.cpp), as emulation.cpp and memory.cpp tell it.
#pragma once

#include <cstddef>
#include <utility>
#include <vector>

namespace emulation {

// All allocations there are.
std::vector<std::pair<std::byte*, size_t>> device_memory();

// Around a launch, and in each block of a dependent one: until predecessor_arrives() its results are not there.
void begin_launch();
void end_launch();
void predecessor_is_under_way();
void predecessor_arrives();

}  // namespace emulation
