// How every native bench measures: warm up, then repeat until the time is spent; the best run and the median.
// On a shared machine the best is what the code can do, the distance to the median is the machine's noise.
#pragma once

#include <algorithm>
#include <chrono>
#include <utility>
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

// Two things in turns, so that both meet the same machine.
template <typename A, typename B>
std::pair<Timing, Timing> measure_in_turns(A&& a, B&& b, double seconds = 0.4) {
  for (int i = 0; i < 3; ++i) a(), b();
  std::vector<double> times_a, times_b;
  const double begin = now();
  do {
    // A few of each in a row: what one leaves in the caches is not the other's business.
    for (int i = 0; i < 4; ++i) {
      const double start = now();
      a();
      times_a.push_back(now() - start);
    }
    for (int i = 0; i < 4; ++i) {
      const double start = now();
      b();
      times_b.push_back(now() - start);
    }
  } while (now() - begin < seconds);
  std::sort(times_a.begin(), times_a.end());
  std::sort(times_b.begin(), times_b.end());
  return {{times_a.front(), times_a[times_a.size() / 2]}, {times_b.front(), times_b[times_b.size() / 2]}};
}

}  // namespace ardiff::bench
