// oneDNN's engine, and how it is called: always with one OpenMP thread, work being shared out by the thread pool.
// OpenMP's own fork-join waits for every thread (thread_pool.h says what that costs), and a primitive of one thread
// cannot compute anything differently for another number of them.
#pragma once

#include <dnnl.hpp>
#include <omp.h>

#include "base/error.h"

namespace ardiff::cpu {

struct DnnlRuntime {
  dnnl::engine engine{dnnl::engine::kind::cpu, 0};
};

// oneDNN takes the calling thread's setting, when primitives are made and when they run.
inline void use_one_openmp_thread() {
  if (omp_get_max_threads() != 1) omp_set_num_threads(1);
}

// Runs body; oneDNN's errors become ours.
template <typename Body>
auto with_dnnl(const char* what, Body&& body) {
  use_one_openmp_thread();
  try {
    return body();
  } catch (const dnnl::error& error) {
    const bool memory = error.status == dnnl_out_of_memory;
    fail(memory ? ErrorCode::kOutOfMemory : ErrorCode::kInternal, what, ": oneDNN: ", error.what());
  }
}

// For the pool's threads, which must not throw: runs body, says whether it went well.
template <typename Body>
bool try_dnnl(Body&& body) {
  use_one_openmp_thread();
  try {
    body();
    return true;
  } catch (const std::exception&) {
    return false;
  }
}

}  // namespace ardiff::cpu
