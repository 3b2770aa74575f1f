// What the first CUDA device's memory gives, in bytes per second: the floors of cuda_bench.
#pragma once

#include <cstddef>

namespace ardiff::bench {

struct DeviceBandwidth {
  double copy;  // bytes read and written by a copy of 1 GiB
  double read;  // bytes read by a kernel that does nothing else
};

DeviceBandwidth device_bandwidth();
size_t free_device_memory();

}  // namespace ardiff::bench
