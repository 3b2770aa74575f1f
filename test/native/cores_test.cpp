// Cores behind hardware threads, from files as the kernel shows them. With the cpu backend alone.
#include <gtest/gtest.h>

#if ARDIFF_WITH_CPU
#include "backend/backend.h"
#include "backend/cpu/cores.h"
#include "expect_error.h"
#include "temp_dir.h"

namespace ardiff::cpu {
namespace {

using testing_support::TempDir;

void write_core(const TempDir& root, int thread, const char* name, const std::string& siblings) {
  root.write("sys/devices/system/cpu/cpu" + std::to_string(thread) + "/topology/" + name, siblings + "\n");
}

TEST(Cores, TwoThreadsOfACoreCountOnce) {
  const TempDir root;
  for (const int thread : {0, 4}) write_core(root, thread, "core_cpus_list", "0,4");
  for (const int thread : {1, 5}) write_core(root, thread, "core_cpus_list", "1,5");
  for (const int thread : {2, 6}) write_core(root, thread, "thread_siblings_list", "2,6");
  EXPECT_EQ(physical_cores(std::vector{0, 1, 2, 4, 5, 6}, root.path()), 3);
  EXPECT_EQ(physical_cores(std::vector{0, 4}, root.path()), 1);
  EXPECT_EQ(physical_cores(std::vector{1, 6}, root.path()), 2);
}

TEST(Cores, AThreadOfWhichNothingIsToldIsACore) {
  const TempDir root;
  EXPECT_EQ(physical_cores(std::vector{0, 1, 7}, root.path()), 3);
}

TEST(Cores, OfThisMachine) {
  const auto threads = static_cast<int>(available_hardware_threads().size());
  EXPECT_GE(threads, 1);
  EXPECT_GE(available_cores(), 1);
  EXPECT_LE(available_cores(), threads);
}

TEST(Cores, EnginesThatShareTheProcessorDivideIt) {
  const auto threads = [](int asked, int shared_by) {
    return make_backend({.name = "cpu", .dtype = "float32", .threads = asked, .shared_by = shared_by})->info().threads;
  };
  EXPECT_EQ(threads(0, 1), available_cores());
  EXPECT_EQ(threads(0, 2), std::max(1, available_cores() / 2));
  EXPECT_EQ(threads(0, 10'000), 1);
  EXPECT_EQ(threads(3, 2), 3);
  expect_error([&] { threads(0, 0); }, ErrorCode::kInvalidArgument, "shared_by: expected at least 1, got 0");
}

}  // namespace
}  // namespace ardiff::cpu
#endif
