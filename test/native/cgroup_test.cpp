// Limits of control groups, from files as the kernel shows them.
#include "base/cgroup.h"

#include <gtest/gtest.h>

#include "temp_dir.h"

namespace ardiff {
namespace {

using testing_support::TempDir;

TEST(Cgroup, NoFilesAreNoLimits) {
  const TempDir root;
  EXPECT_FALSE(cgroup_limits(root.path()).processors);
  EXPECT_FALSE(cgroup_limits(root.path()).memory_bytes);
  root.write("proc/self/cgroup", "0::/\nnonsense\n\n7:\n");
  root.write("sys/fs/cgroup/cpu.max", "what\n");
  root.write("sys/fs/cgroup/memory.max", "");
  EXPECT_FALSE(cgroup_limits(root.path()).processors);
  EXPECT_FALSE(cgroup_limits(root.path()).memory_bytes);
}

TEST(Cgroup, V2InAContainer) {
  const TempDir root;
  root.write("proc/self/cgroup", "0::/\n");
  root.write("sys/fs/cgroup/cpu.max", "250000 100000\n");
  root.write("sys/fs/cgroup/memory.max", "4294967296\n");
  const CgroupLimits limits = cgroup_limits(root.path());
  EXPECT_EQ(limits.processors, 2.5);
  EXPECT_EQ(limits.memory_bytes, uint64_t{4} << 30);
}

TEST(Cgroup, V2TheTightestOfAllAbove) {
  const TempDir root;
  root.write("proc/self/cgroup", "0::/slice/unit.service\n");
  root.write("sys/fs/cgroup/slice/cpu.max", "300000 100000\n");
  root.write("sys/fs/cgroup/slice/unit.service/cpu.max", "max 100000\n");
  root.write("sys/fs/cgroup/slice/memory.max", "max\n");
  root.write("sys/fs/cgroup/slice/unit.service/memory.max", "1048576\n");
  const CgroupLimits limits = cgroup_limits(root.path());
  EXPECT_EQ(limits.processors, 3.0);
  EXPECT_EQ(limits.memory_bytes, 1048576u);
}

TEST(Cgroup, APathToldFromOutsideTheMount) {
  const TempDir root;
  root.write("proc/self/cgroup", "0::/../../docker/abc\n");
  root.write("sys/fs/cgroup/cpu.max", "50000 100000\n");
  EXPECT_EQ(cgroup_limits(root.path()).processors, 0.5);
  root.write("proc/self/cgroup", "0::/docker/abc\n");
  EXPECT_EQ(cgroup_limits(root.path()).processors, 0.5);
}

TEST(Cgroup, V1) {
  const TempDir root;
  root.write("proc/self/cgroup", "9:name=systemd:/\n4:memory:/job\n2:cpu,cpuacct:/job\n0::/\n");
  root.write("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n");
  root.write("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n");
  root.write("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
  EXPECT_FALSE(cgroup_limits(root.path()).processors);
  EXPECT_FALSE(cgroup_limits(root.path()).memory_bytes);
  root.write("sys/fs/cgroup/cpu/job/cpu.cfs_quota_us", "150000\n");
  root.write("sys/fs/cgroup/cpu/job/cpu.cfs_period_us", "50000\n");
  root.write("sys/fs/cgroup/memory/job/memory.limit_in_bytes", "2147483648\n");
  EXPECT_EQ(cgroup_limits(root.path()).processors, 3.0);
  EXPECT_EQ(cgroup_limits(root.path()).memory_bytes, uint64_t{2} << 30);
}

}  // namespace
}  // namespace ardiff
