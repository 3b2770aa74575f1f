// What the process's control group lets it have: a container sees all of the machine's processors and memory, and may use a part.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>

namespace ardiff {

struct CgroupLimits {
  std::optional<double> processors;      // of processor time a second, in processors; absent: no limit
  std::optional<uint64_t> memory_bytes;  // absent: no limit
};

// The tightest of the group's and its parents' limits, cgroup v1 and v2 (kernel documentation, admin-guide/cgroup-v1 and cgroup-v2).
// What cannot be read limits nothing. `root` stands for / in tests.
CgroupLimits cgroup_limits(const std::filesystem::path& root = "/");

}  // namespace ardiff
