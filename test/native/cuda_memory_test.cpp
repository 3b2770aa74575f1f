// The cuda backend on a device with little memory: what does not fit is refused before anything is allocated, what fits runs, and
// running out in a step costs that step alone.
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>

#include "backend/backend.h"
#include "base/error.h"
#include "engine/memory_price.h"
#include "engine/rehearsal.h"
#include "expect_error.h"
#include "support/golden_dir.h"
#include "support/settings.h"
#if ARDIFF_CUDA_EMULATION
#include "emulated_memory.h"
#endif

namespace ardiff {
namespace {

using testing_support::Setting;

const LoadOptions kOptions = {.kv_blocks = 64, .max_step_tokens = 64, .rehearsal = {2, 2, 2, 3}};

std::vector<Setting> cuda_settings() {
  std::vector<Setting> out = testing_support::settings();
  std::erase_if(out, [](const Setting& setting) { return setting.backend != "cuda"; });
  return out;
}

// Holds all of the device's memory but `left` bytes, and at most kSmallest more, while it lives.
class Scarcity {
 public:
  Scarcity(Backend& backend, int64_t left) {
#if ARDIFF_CUDA_EMULATION
    emulation::limit_memory(emulation::used_memory() + static_cast<size_t>(left) + kBallast);  // its memory is the host's
#endif
    // In pieces: a device does not give in one all that it says is free.
    for (int64_t most = std::numeric_limits<int64_t>::max();;) {
      const int64_t piece = std::min(most, backend.device_memory()->free - left);
      if (piece < kSmallest) return;
      try {
        ballast_.push_back(backend.allocate(static_cast<size_t>(piece)));
      } catch (const Error& error) {
        if (error.code() != ErrorCode::kOutOfMemory) throw;
        most = piece / 2;
      }
    }
  }
  ~Scarcity() {
#if ARDIFF_CUDA_EMULATION
    emulation::limit_memory(size_t{1} << 33);
#endif
  }
  Scarcity(const Scarcity&) = delete;
  Scarcity& operator=(const Scarcity&) = delete;

 private:
  static constexpr int64_t kSmallest = int64_t{1} << 20;
  static constexpr size_t kBallast = size_t{24} << 20;

  std::vector<Storage> ballast_;
};

class CudaMemory : public testing::TestWithParam<Setting> {
 protected:
  std::unique_ptr<Engine> load(const LoadOptions& options = kOptions) {
    return load_engine(*backend_, testing_support::golden_dir() / "nextstep-tiny", options);
  }
  int64_t priced() {
    const MemoryPrice price = *load()->info().memory;
    return price.weights + price.kv + price.workspace;
  }
  // Tokens of a picture of 2 x 2.
  static std::vector<float> draw(Engine& engine) {
    SequenceSpec spec;
    spec.id = 7;
    spec.prompt_rows = {{static_cast<int32_t>(engine.info().boi_token_id)}};
    spec.grid_height = spec.grid_width = 2;
    spec.seed = 5;
    spec.sampler.timesteps = 2;
    spec.guidance_scale = 1.0;
    StepPlan first, rest;
    first.admit = {spec};
    first.prefill = {{7, 0, 0, 1, {0}}};
    engine.step(first);
    rest.decode = {{7, {{0}}, 4}};
    rest.read = {{7, 0, 4}};
    const StepResult result = engine.step(rest);
    StepPlan last;
    last.release = {7};
    engine.step(last);
    return result.tokens.at(0).data;
  }

  std::unique_ptr<Backend> backend_ = make_backend({GetParam().backend, GetParam().dtype, 1});
};

TEST_P(CudaMemory, IsTold) {
  const DeviceMemory memory = *backend_->device_memory();
  EXPECT_GT(memory.free, 0);
  EXPECT_LE(memory.free, memory.total);
  const std::unique_ptr<Engine> engine = load();
  EXPECT_GT(engine->info().memory->free, memory.free / 2);
  EXPECT_LT(backend_->device_memory()->free, memory.free);
}

#if ARDIFF_CUDA_EMULATION
// To the byte, which a device does not tell.
TEST_P(CudaMemory, PreparedWeightsTakeWhatTheyArePricedAt) {
  for (const auto& [in, out] : std::vector<std::pair<int64_t, int64_t>>{{33, 70}, {256, 96}, {64, 64}}) {
    const std::vector<float> values(static_cast<size_t>(in * out), 0.5f);
    const LinearPart part{{values.data(), DType::kF32, {out, in}, "w"}, {}};
    backend_->prepare_linear({&part, 1});  // what stages it on its way is kept
    const size_t before = emulation::used_memory();
    const auto layer = backend_->prepare_linear({&part, 1});
    EXPECT_EQ(emulation::used_memory() - before, backend_->linear_bytes(in, out)) << in << " to " << out;
  }
  const std::vector<float> taps(static_cast<size_t>(70 * 33 * 9), 0.5f), biases(70, 0.0f);
  const size_t before = emulation::used_memory();
  const auto conv = backend_->prepare_conv2d({taps.data(), DType::kF32, {70, 33, 3, 3}, "w"}, {biases.data(), DType::kF32, {70}, "b"}, ConvPadding::kSame);
  EXPECT_EQ(emulation::used_memory() - before, backend_->conv2d_bytes(33, 70, 3));
}
#endif

TEST_P(CudaMemory, WhatDoesNotFitIsRefusedBeforeItIsAllocated) {
  const int64_t total = priced();
  const Scarcity scarcity(*backend_, total - (int64_t{4} << 20));
  const int64_t free = backend_->device_memory()->free;
  expect_error([&] { load(); }, ErrorCode::kOutOfMemory, "out of memory: weights 0.0");
  EXPECT_EQ(backend_->device_memory()->free, free);
}

TEST_P(CudaMemory, WhatFitsLoadsAndRunsItsWidestStep) {
  const int64_t total = priced();
  const Scarcity scarcity(*backend_, total + (int64_t{4} << 20));
  const std::unique_ptr<Engine> engine = load();
  rehearse(*engine, kOptions);
  EXPECT_EQ(draw(*engine).size(), static_cast<size_t>(4 * engine->info().token_size));
}

// Graphs are part of the price, and within it: with that much memory pictures come again and again, recorded and replayed.
TEST_P(CudaMemory, GraphsAreWithinThePrice) {
  const auto with = make_backend({.name = GetParam().backend, .dtype = GetParam().dtype, .threads = 1, .graphs = true});
  const auto without = make_backend({.name = GetParam().backend, .dtype = GetParam().dtype, .threads = 1, .graphs = false});
  EXPECT_EQ(with->op_memory_bytes(0) - without->op_memory_bytes(0), size_t{20000} * 4 << 10);
  const auto load_on = [](Backend& backend) { return load_engine(backend, testing_support::golden_dir() / "nextstep-tiny", kOptions); };
  const MemoryPrice price = *load_on(*with)->info().memory;
  EXPECT_EQ(price.workspace - load_on(*without)->info().memory->workspace, int64_t{20000} * 4 << 10);
  const int64_t total = price.weights + price.kv + price.workspace;
  {
    const Scarcity scarcity(*with, total - (int64_t{4} << 20));
    expect_error([&] { load_on(*with); }, ErrorCode::kOutOfMemory, "out of memory: weights 0.0");
  }
  const Scarcity scarcity(*with, total + (int64_t{4} << 20));
  const std::unique_ptr<Engine> engine = load_on(*with);
  rehearse(*engine, kOptions);
  const std::vector<float> first = draw(*engine);
  for (int turn = 0; turn < 4; ++turn) EXPECT_EQ(draw(*engine), first);
  const StretchCounts counts = with->stretch_counts();
  EXPECT_GT(counts.replayed, 0);
  EXPECT_GT(counts.kept, 0);
  EXPECT_LE(counts.kept_bytes, int64_t{20000} * 4 << 10);
}

// More pictures than were priced: their rows need memory that is not there. The step is lost, the engine goes on.
TEST_P(CudaMemory, RunningOutInAStepIsAnErrorAndNotTheEnd) {
  const std::unique_ptr<Engine> engine = load();
  const std::vector<float> expected = draw(*engine);
  int64_t side = 1;  // of the largest grid that the model has positions for
  while ((side + 1) * (side + 1) < engine->info().max_positions) ++side;
  StepPlan crowd;
  for (uint32_t id = 0; id < 40; ++id) {
    SequenceSpec spec;
    spec.id = id;
    spec.prompt_rows.assign(2, {static_cast<int32_t>(engine->info().boi_token_id)});
    spec.grid_height = spec.grid_width = std::min<int64_t>(side, 128);
    spec.guidance_scale = 2.0;
    crowd.admit.push_back(spec);
  }
  {
    const Scarcity scarcity(*backend_, 0);
    expect_error([&] { engine->step(crowd); }, ErrorCode::kOutOfMemory, "out of memory");
    EXPECT_EQ(draw(*engine), expected);
  }
  EXPECT_EQ(draw(*engine), expected);
}

GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(CudaMemory);
INSTANTIATE_TEST_SUITE_P(Backends, CudaMemory, testing::ValuesIn(cuda_settings()), testing_support::setting_name);

}  // namespace
}  // namespace ardiff
