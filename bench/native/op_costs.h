// What a run of model code costs on a TimedBackend: its time, and the share of each kind of op.
#pragma once

#include <cstdio>
#include <functional>

#include "timed_backend.h"

namespace ardiff::bench {

struct Cost {
  Timing time;
  std::array<double, TimedBackend::kKinds> shares{};  // of the ops' time in the best tenth of runs
};

inline Cost cost_of(TimedBackend& backend, double seconds, const std::function<void()>& run) {
  struct Run {
    double time;
    std::array<double, TimedBackend::kKinds> parts;
  };
  std::vector<Run> runs;
  for (int i = 0; i < 3; ++i) run();
  const double begin = now();
  do {
    backend.seconds = {};
    const double start = now();
    run();
    runs.push_back({now() - start, backend.seconds});
  } while (now() - begin < seconds || runs.size() < 10);
  std::sort(runs.begin(), runs.end(), [](const Run& a, const Run& b) { return a.time < b.time; });
  Cost out{{runs.front().time, runs[runs.size() / 2].time}, {}};
  double total = 0;
  for (size_t i = 0; i < runs.size() / 10; ++i) {
    total += runs[i].time;
    for (size_t kind = 0; kind < out.shares.size(); ++kind) out.shares[kind] += runs[i].parts[kind];
  }
  for (double& share : out.shares) share /= total;
  return out;
}

// To the end of the line.
inline void print_shares(const Cost& cost) {
  for (size_t kind = 0; kind < cost.shares.size(); ++kind) {
    if (cost.shares[kind] >= 0.005) std::printf(" %s %.1f%%", TimedBackend::kNames[kind], 100 * cost.shares[kind]);
  }
  std::printf("\n");
  std::fflush(stdout);
}

}  // namespace ardiff::bench
