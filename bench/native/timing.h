// How every native bench measures: warm up, then repeat until the time is spent; the best run and the median.
// On a shared machine the best is what the code can do, the distance to the median is the machine's noise.
#pragma once

#include <algorithm>
#include <chrono>
#include <vector>

namespace ardiff::bench {

struct Timing {
  double best;    // seconds
  double median;
};

inline double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

template <typename Run>
Timing measure(Run&& run, double seconds = 0.2) {
  for (int i = 0; i < 3; ++i) run();
  std::vector<double> times;
  const double begin = now();
  do {
    const double start = now();
    run();
    times.push_back(now() - start);
  } while (now() - begin < seconds || times.size() < 5);
  std::sort(times.begin(), times.end());
  return {times.front(), times[times.size() / 2]};
}

}  // namespace ardiff::bench
