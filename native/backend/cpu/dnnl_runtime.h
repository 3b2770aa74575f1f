// oneDNN's engine and stream, and its errors as ours.
#pragma once

#include <dnnl.hpp>
#include <omp.h>

#include "base/error.h"

namespace ardiff::cpu {

struct DnnlRuntime {
  dnnl::engine engine{dnnl::engine::kind::cpu, 0};
  dnnl::stream stream{engine};
};

// Runs body with `threads` OpenMP threads. oneDNN takes the calling thread's setting, and the choice of kernels
// may follow it, so it is set every time: backends are made on one thread and used on another.
template <typename Body>
auto with_dnnl(int threads, const char* what, Body&& body) {
  if (omp_get_max_threads() != threads) omp_set_num_threads(threads);
  try {
    return body();
  } catch (const dnnl::error& error) {
    const bool memory = error.status == dnnl_out_of_memory;
    fail(memory ? ErrorCode::kOutOfMemory : ErrorCode::kInternal, what, ": oneDNN: ", error.what());
  }
}

}  // namespace ardiff::cpu
