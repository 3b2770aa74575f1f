// How many threads the kernels get where nobody says.
#pragma once

#include <filesystem>
#include <span>
#include <vector>

namespace ardiff::cpu {

// Hardware threads this process may run on, by their number.
std::vector<int> available_hardware_threads();

// Cores that the hardware threads belong to: two threads of one core share its vector units, so a second one adds little to a
// product and waits at every fork-join. A thread whose core the system does not tell counts as one. `root` stands for / in tests.
int physical_cores(std::span<const int> hardware_threads, const std::filesystem::path& root = "/");

// A thread for each core the process may run on, no more than its control group gives it processors for: beyond that, threads
// are stopped in turns, and those that run wait for them.
int available_cores();

}  // namespace ardiff::cpu
