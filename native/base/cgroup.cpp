#include "base/cgroup.h"

#include <algorithm>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

namespace ardiff {
namespace {

namespace fs = std::filesystem;

// First word and second word of a file; empty where there are none.
std::pair<std::string, std::string> words(const fs::path& file) {
  std::pair<std::string, std::string> out;
  std::ifstream(file) >> out.first >> out.second;
  return out;
}

// "max" and "-1" say that there is no limit, and so does 0, which is none.
std::optional<double> positive(const std::string& text) {
  std::istringstream stream(text);
  double value = 0;
  return stream >> value && value > 0 ? std::optional(value) : std::nullopt;
}

template <typename T>
void tighten(std::optional<T>& limit, std::optional<T> other) {
  if (other) limit = limit ? std::min(*limit, *other) : *other;
}

std::optional<double> ratio(const std::string& quota, const std::string& period) {
  const std::optional<double> above = positive(quota);
  const std::optional<double> below = positive(period);
  return above && below ? std::optional(*above / *below) : std::nullopt;
}

std::optional<uint64_t> bytes(const std::string& text) {
  // v1 says "no limit" with the largest multiple of a page that a long holds.
  constexpr double kNoLimit = 9e18;
  const std::optional<double> value = positive(text);
  return value && *value < kNoLimit ? std::optional(static_cast<uint64_t>(*value)) : std::nullopt;
}

// The group and those above it. Inside a container the mount often begins at the group itself while its path is told from outside,
// so folders that are not there are passed over.
std::vector<fs::path> lineage(const fs::path& mount, const std::string& group) {
  std::vector<fs::path> out{mount};
  fs::path folder = mount;
  for (const fs::path& part : fs::path(group).relative_path()) {
    if (part == "..") return out;  // a group outside of what is mounted
    folder /= part;
    out.push_back(folder);
  }
  return out;
}

void read_v2(const fs::path& mount, const std::string& group, CgroupLimits& limits) {
  for (const fs::path& folder : lineage(mount, group)) {
    const auto [quota, period] = words(folder / "cpu.max");
    tighten(limits.processors, ratio(quota, period));
    tighten(limits.memory_bytes, bytes(words(folder / "memory.max").first));
  }
}

void read_v1(const fs::path& mount, const std::string& controllers, const std::string& group, CgroupLimits& limits) {
  std::istringstream names(controllers);
  for (std::string name; std::getline(names, name, ',');) {
    for (const fs::path& folder : lineage(mount / name, group)) {
      if (name == "cpu") tighten(limits.processors, ratio(words(folder / "cpu.cfs_quota_us").first, words(folder / "cpu.cfs_period_us").first));
      if (name == "memory") tighten(limits.memory_bytes, bytes(words(folder / "memory.limit_in_bytes").first));
    }
  }
}

}  // namespace

CgroupLimits cgroup_limits(const fs::path& root) {
  CgroupLimits limits;
  const fs::path mount = root / "sys/fs/cgroup";
  std::ifstream groups(root / "proc/self/cgroup");
  // Each line: hierarchy:controllers:path; v2 is hierarchy 0 and names no controllers.
  for (std::string line; std::getline(groups, line);) {
    const size_t first = line.find(':');
    const size_t second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const std::string group = line.substr(second + 1);
    if (controllers.empty()) {
      read_v2(mount, group, limits);
    } else {
      read_v1(mount, controllers, group, limits);
    }
  }
  return limits;
}

}  // namespace ardiff
