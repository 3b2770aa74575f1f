// Launches of kernels that wait for their predecessor by themselves (dependent_launch.cuh), and of clusters.
#pragma once

#include "backend/cuda/dependent_launch.cuh"
#include "backend/cuda/device.h"
#include "backend/cuda/memory.h"

namespace ardiff::cuda {

struct LaunchShape {
  dim3 grid;
  unsigned block = kBlock;
  size_t shared_bytes = 0;
  bool early = true;     // may begin before its predecessor's end
  unsigned cluster = 1;  // blocks of one
};

// kernel<<<...>>>(arguments...) of that shape, which the caller checks (check_launch).
template <typename... Parameters, typename... Arguments>
void launch_shaped(cudaStream_t stream, const LaunchShape& shape, void (*kernel)(Parameters...), const Arguments&... arguments) {
  cudaLaunchAttribute attributes[2]{};
  unsigned count = 0;
  if (shape.early) {
    attributes[count].id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attributes[count++].val.programmaticStreamSerializationAllowed = 1;
  }
  if (shape.cluster > 1) {
    attributes[count].id = cudaLaunchAttributeClusterDimension;
    attributes[count].val.clusterDim.x = shape.cluster;
    attributes[count].val.clusterDim.y = attributes[count].val.clusterDim.z = 1;
    ++count;
  }
  cudaLaunchConfig_t config{};
  config.gridDim = shape.grid;
  config.blockDim = shape.block;
  config.dynamicSmemBytes = shape.shared_bytes;
  config.stream = stream;
  config.attrs = attributes;
  config.numAttrs = count;
  (void)cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(arguments)...);  // the last error, too
}

// The same, checked, and early only where the stream says so too. The kernel begins with wait_for_predecessor(), but for what it fetches of
// weights.
template <typename... Parameters, typename... Arguments>
void launch_dependent(const Stream& stream, LaunchShape shape, const char* op, void (*kernel)(Parameters...),
                      const Arguments&... arguments) {
  shape.early = shape.early && stream.launches_early();
  launch_shaped(stream, shape, kernel, arguments...);
  check_launch(op);
}

}  // namespace ardiff::cuda
