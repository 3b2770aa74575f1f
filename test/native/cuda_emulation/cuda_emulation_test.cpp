// The emulation itself: what it delays arrives no sooner than it may, and what a device would not say ends the process.
#include <gtest/gtest.h>

#include <cmath>

#include "backend/cuda/bulk_copy.cuh"
#include "emulated_dependencies.h"

namespace emulation {
namespace {

using ardiff::cuda::address_in_block, ardiff::cuda::arrive, ardiff::cuda::arrive_expecting, ardiff::cuda::arrive_in_block,
    ardiff::cuda::copy_bulk, ardiff::cuda::copy_bulk_to_blocks, ardiff::cuda::init_barrier, ardiff::cuda::send_to_block,
    ardiff::cuda::wait_phase;

// One number on the emulated device, written by one launch and used by the next.
class EmulatedDependencies : public testing::Test {
 protected:
  void SetUp() override {
    void* memory = nullptr;
    ASSERT_EQ(cudaMalloc(&memory, 2 * sizeof(float)), cudaSuccess);
    numbers_ = static_cast<float*>(memory);
    numbers_[0] = numbers_[1] = 0.0f;
    watch_dependencies(true);
    launch(1, 32, 0, [](float* to) { *to = 3.0f; }, numbers_);
  }
  void TearDown() override {
    watch_dependencies(false);
    cudaFree(numbers_);
  }
  static Shape dependent(unsigned blocks) { return {true, 1, blocks, 32, 0}; }

  float* numbers_ = nullptr;
};

TEST_F(EmulatedDependencies, ResultsAreThereAfterTheWaitAndNotBefore) {
  static bool early_is_a_number, late_is_right;
  const auto kernel = [](float* from) {
    early_is_a_number = !std::isnan(from[0]);
    wait_for_predecessor();
    late_is_right = from[0] == 3.0f;
  };
  launch_as(dependent(2), kernel, numbers_);
  EXPECT_FALSE(early_is_a_number);
  EXPECT_TRUE(late_is_right);
  launch(1, 32, 0, [](float* to) { *to = 4.0f; }, numbers_);
  launch(2, 32, 0, kernel, numbers_);  // in the plain way: all is there
  EXPECT_TRUE(early_is_a_number);
  launch(1, 32, 0, [](float* to) { *to = 5.0f; }, numbers_);
  forget_predecessor();
  launch_as(dependent(2), kernel, numbers_);
  EXPECT_TRUE(early_is_a_number) << "a copy in between waits for all launches";
}

TEST_F(EmulatedDependencies, ThreadsWaitForThemselvesAlone) {
  static int early_numbers;
  early_numbers = 0;
  launch_as(
      dependent(1),
      [](float* from) {
        if (threadIdx.x < 5) wait_for_predecessor();
        early_numbers += threadIdx.x >= 5 && !std::isnan(from[0]) ? 1 : 0;
        wait_for_predecessor();
        sync_threads();
      },
      numbers_);
  EXPECT_EQ(early_numbers, 0) << "what others have waited for is not there for those that have not";
}

using EmulatedDependenciesDeathTest = EmulatedDependencies;

TEST_F(EmulatedDependenciesDeathTest, BrokenRulesEndTheProcess) {
  EXPECT_DEATH(launch_as(dependent(1), [](float* to) { to[1] = 1.0f, wait_for_predecessor(); }, numbers_), "writes before it has waited");
  EXPECT_DEATH(launch_as(dependent(1), [](float*) {}, numbers_), "has not waited for its predecessor");
  EXPECT_DEATH(
      launch_as(dependent(1), [](float*) { let_successor_begin(), wait_for_predecessor(); }, numbers_), "predecessor's predecessor");
}

// What kernels of clusters of two blocks of 64 threads have in shared memory.
struct Shared {
  alignas(16) float4 number;
  uint64_t barrier;
};

Shared& shared() {
  static char declaration;
  return *static_cast<Shared*>(static_shared(&declaration, sizeof(Shared), 16));
}

// In every thread of a cluster, once its blocks' barriers expect one arrival a phase.
template <typename Body>
void in_cluster(Body body) {
  launch_as(
      {false, 2, 2, 64, 0},
      [](Body run) {
        if (threadIdx.x == 0) init_barrier(&shared().barrier, 1);
        sync_cluster();
        run();
        sync_cluster();
      },
      body);
}

constexpr float4 kNumber = {1.0f, 2.0f, 3.0f, 4.0f};

TEST(EmulatedCluster, CopiesAreThereAfterTheirPhaseAndNotBefore) {
  static int early, right;
  early = right = 0;
  in_cluster([] {
    alignas(16) static float4 global = kNumber;
    if (threadIdx.x == 0) {
      arrive_expecting(&shared().barrier, sizeof global);
      if (block_of_cluster() == 1) copy_bulk_to_blocks(&shared().number, &global, sizeof global, &shared().barrier, 3);
      early += shared().number.x == 1.0f ? 1 : 0;
    }
    wait_phase(&shared().barrier, 0);
    right += shared().number.w == 4.0f ? 1 : 0;
  });
  EXPECT_EQ(early, 0);
  EXPECT_EQ(right, 2 * 64);
}

TEST(EmulatedCluster, BlocksSendToEachOther) {
  static int right;
  right = 0;
  in_cluster([] {
    const int other = 1 - static_cast<int>(block_of_cluster());
    if (threadIdx.x == 0) {
      arrive_expecting(&shared().barrier, sizeof(float4));
      const float4 mine = {static_cast<float>(block_of_cluster()), 0.0f, 0.0f, 0.0f};
      send_to_block(address_in_block(&shared().number, other), mine, address_in_block(&shared().barrier, other));
    }
    wait_phase(&shared().barrier, 0);
    right += shared().number.x == static_cast<float>(other) ? 1 : 0;
  });
  EXPECT_EQ(right, 2 * 64);
}

TEST(EmulatedCluster, SomeThreadsWaitForEachOther) {
  static int before, after;
  before = after = 0;
  in_cluster([] {
    if (threadIdx.x >= 32) return;
    before += 1;
    sync_some(32);
    after += before % 32 == 0 ? 1 : 0;
  });
  EXPECT_EQ(after, 2 * 32);
}

TEST(EmulatedClusterDeathTest, WhatADeviceWouldNotSayEndsTheProcess) {
  EXPECT_DEATH(in_cluster([] { wait_phase(&shared().barrier, 0); }), "a wait that nobody ends");
  EXPECT_DEATH(in_cluster([] {
                 if (threadIdx.x < 2) arrive(&shared().barrier), arrive(&shared().barrier);
                 if (threadIdx.x == 5) sync_cluster();
               }),
               "a barrier of the cluster that not all threads reach");
  EXPECT_DEATH(in_cluster([] {
                 if (threadIdx.x < 20) sync_some(32);
               }),
               "a barrier of some threads that not as many reach|cluster");
  EXPECT_DEATH(launch_as({false, 2, 2, 64, 0}, [](int) { arrive(&shared().barrier); }, 0), "a barrier that is not initialized");
  EXPECT_DEATH(launch_as(
                   {false, 2, 2, 64, 0},
                   [](int) {
                     if (threadIdx.x == 0) init_barrier(&shared().barrier, 1);
                     sync_cluster();
                     if (block_of_cluster() == 0) return;
                     for (int i = 0; i < 100; ++i) sync_warp();
                     arrive_in_block(address_in_block(&shared().barrier, 0));
                   },
                   0),
               "the shared memory of a block that has ended");
  EXPECT_DEATH(in_cluster([] {
                 alignas(16) static float4 global = kNumber;
                 copy_bulk(&shared().number, reinterpret_cast<const std::byte*>(&global) + 4, 16, &shared().barrier);
               }),
               "not of whole aligned 16 bytes");
}

TEST(EmulatedClusterDeathTest, MoreArrivalsThanAPhaseHas) {
  EXPECT_DEATH(launch_as(
                   {false, 1, 1, 32, 0},
                   [](int) {
                     if (threadIdx.x != 0) return;
                     init_barrier(&shared().barrier, 1);
                     ardiff::cuda::barrier_of(&shared().barrier).expect(16);
                     arrive(&shared().barrier);
                     arrive(&shared().barrier);
                   },
                   0),
               "more arrivals at a barrier than a phase has");
}

}  // namespace
}  // namespace emulation
