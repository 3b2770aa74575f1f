#include "backend/cpu/cores.h"

#include <sched.h>

#include <algorithm>
#include <fstream>
#include <set>
#include <string>
#include <thread>

#include "base/cgroup.h"

namespace ardiff::cpu {

std::vector<int> available_hardware_threads() {
  std::vector<int> out;
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) == 0) {
    for (int thread = 0; thread < CPU_SETSIZE; ++thread) {
      if (CPU_ISSET(thread, &set)) out.push_back(thread);
    }
  }
  if (!out.empty()) return out;
  const int count = std::max(1, static_cast<int>(std::thread::hardware_concurrency()));  // more than a cpu_set_t holds
  for (int thread = 0; thread < count; ++thread) out.push_back(thread);
  return out;
}

int physical_cores(std::span<const int> hardware_threads, const std::filesystem::path& root) {
  std::set<std::string> cores;
  for (const int thread : hardware_threads) {
    const std::filesystem::path topology = root / "sys/devices/system/cpu" / ("cpu" + std::to_string(thread)) / "topology";
    // The list of a core's threads names the core; the second name is that of kernels before 5.3.
    std::string siblings;
    for (const char* name : {"core_cpus_list", "thread_siblings_list"}) {
      if (siblings.empty()) std::getline(std::ifstream(topology / name), siblings);
    }
    cores.insert(siblings.empty() ? "cpu" + std::to_string(thread) : siblings);
  }
  return static_cast<int>(cores.size());
}

int available_cores() {
  const int cores = physical_cores(available_hardware_threads());
  const std::optional<double> processors = cgroup_limits().processors;
  return processors ? std::clamp(static_cast<int>(std::min(*processors, 1e6)), 1, cores) : cores;
}

}  // namespace ardiff::cpu
