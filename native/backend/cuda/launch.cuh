// Launches of kernels that wait for their predecessor by themselves (dependent_launch.cuh), and of clusters.
#pragma once

#include <algorithm>
#include <map>
#include <mutex>
#include <utility>

#include "backend/cuda/dependent_launch.cuh"
#include "backend/cuda/device.h"
#include "backend/cuda/memory.h"

namespace ardiff::cuda {

inline void set_cluster(cudaLaunchAttribute& attribute, unsigned blocks) {
  attribute.id = cudaLaunchAttributeClusterDimension;
  attribute.val.clusterDim.x = blocks;
  attribute.val.clusterDim.y = attribute.val.clusterDim.z = 1;
}

struct LaunchShape {
  dim3 grid;
  unsigned block = kBlock;
  size_t shared_bytes = 0;
  bool early = true;     // may begin before its predecessor's end
  unsigned cluster = 1;  // blocks of one
};

// How many clusters of a kernel the device holds at once: fewer than its multiprocessors have room for where these lie in groups that are
// not whole clusters. Asked once for a kernel and number of multiprocessors; at least one.
template <typename... Parameters>
int clusters_at_once(void (*kernel)(Parameters...), const LaunchShape& shape, int multiprocessors) {
  static std::mutex mutex;
  static std::map<std::pair<const void*, int>, int> known;
  const std::lock_guard lock(mutex);
  int& clusters = known[{reinterpret_cast<const void*>(kernel), multiprocessors}];
  if (clusters != 0) return clusters;
  cudaLaunchAttribute attribute{};
  cudaLaunchConfig_t config{};
  set_cluster(attribute, shape.cluster);
  config.gridDim = static_cast<unsigned>(multiprocessors) / shape.cluster * shape.cluster;
  config.blockDim = shape.block;
  config.dynamicSmemBytes = shape.shared_bytes;
  config.attrs = &attribute;
  config.numAttrs = 1;
  check_cuda(cudaOccupancyMaxActiveClusters(&clusters, kernel, &config), "clusters of a kernel");
  return clusters = std::max(clusters, 1);
}

// kernel<<<...>>>(arguments...) of that shape, which the caller checks (check_launch).
template <typename... Parameters, typename... Arguments>
void launch_shaped(cudaStream_t stream, const LaunchShape& shape, void (*kernel)(Parameters...), const Arguments&... arguments) {
  cudaLaunchAttribute attributes[2]{};
  unsigned count = 0;
  if (shape.early) {
    attributes[count].id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attributes[count++].val.programmaticStreamSerializationAllowed = 1;
  }
  if (shape.cluster > 1) set_cluster(attributes[count++], shape.cluster);
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
