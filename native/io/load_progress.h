// How far a model is loaded: counted by the thread that loads, read by any other.
#pragma once

#include <atomic>
#include <cstdint>

namespace ardiff {

struct LoadProgress {
  std::atomic<int64_t> bytes = 0;  // of weights that were asked for, as they are stored
};

}  // namespace ardiff
