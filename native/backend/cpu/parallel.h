// Fork and join on the OpenMP threads. Waking them costs about a microsecond while they spin, so small work
// stays on the calling thread. How work is split never changes a result: see kernels.h.
#pragma once

#include <omp.h>

#include <cstdint>

namespace ardiff::cpu {

// body(part) for part in [0, parts), each once. The body must not throw.
template <typename Body>
void parallel(int parts, Body&& body) {
  if (parts <= 1) {
    if (parts == 1) body(0);
    return;
  }
#pragma omp parallel num_threads(parts)
  for (int part = omp_get_thread_num(); part < parts; part += omp_get_num_threads()) body(part);  // fewer threads may come than asked
}

// Elements of simple per-element work worth one more thread.
constexpr int64_t kElementsPerThread = 16 * 1024;

// body(begin, end) over disjoint ranges of [0, items), on more than one thread where the work is worth it.
// element_cost: elements of work one item stands for.
template <typename Body>
void parallel_for(int threads, int64_t items, int64_t element_cost, Body&& body) {
  int64_t parts = items * element_cost / kElementsPerThread;
  if (parts > threads) parts = threads;
  if (parts > items) parts = items;
  if (parts <= 1) {
    if (items > 0) body(int64_t{0}, items);
    return;
  }
  parallel(static_cast<int>(parts), [&](int part) { body(items * part / parts, items * (part + 1) / parts); });
}

}  // namespace ardiff::cpu
