// Launches of kernels that wait for their predecessor by themselves (dependent_launch.cuh).
#pragma once

#include "backend/cuda/dependent_launch.cuh"
#include "backend/cuda/device.h"
#include "backend/cuda/memory.h"

namespace ardiff::cuda {

struct LaunchShape {
  dim3 grid;
  unsigned block = kBlock;
  size_t shared_bytes = 0;
  bool early = true;  // may begin before its predecessor's end where the stream says so
};

// kernel<<<...>>>(arguments...), which may begin before its predecessor's end where the stream says so. The kernel begins with
// wait_for_predecessor(), but for what it fetches of weights.
template <typename... Parameters, typename... Arguments>
void launch_dependent(const Stream& stream, const LaunchShape& shape, const char* op, void (*kernel)(Parameters...), const Arguments&... arguments) {
  cudaLaunchAttribute early{};
  early.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  early.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = shape.grid;
  config.blockDim = shape.block;
  config.dynamicSmemBytes = shape.shared_bytes;
  config.stream = stream;
  config.attrs = &early;
  config.numAttrs = stream.launches_early() && shape.early ? 1 : 0;
  (void)cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(arguments)...);  // the last error, too
  check_launch(op);
}

}  // namespace ardiff::cuda
