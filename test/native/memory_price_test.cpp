// The price of a model in a device's memory: counted on a backend that allocates nothing, against what others allocate.
#include "engine/memory_price.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "backend/pricing_backend.h"
#include "engine/nextstep_engine.h"
#include "engine/rehearsal.h"
#include "engine/transdiff_engine.h"
#include "expect_error.h"
#include "support/golden_dir.h"

namespace ardiff {
namespace {

constexpr int64_t kGiB = int64_t{1} << 30;

struct Case {
  const char* folder;
  LoadOptions options;
  friend void PrintTo(const Case& c, std::ostream* out) { *out << c.folder; }
};

MakeEngine maker(const Case& c) {
  const std::filesystem::path directory = testing_support::golden_dir() / c.folder;
  return [directory, options = c.options](Backend& backend) { return load_engine(backend, directory, options); };
}

class MemoryPricing : public testing::TestWithParam<Case> {
 protected:
  std::unique_ptr<Backend> backend_ = make_backend({"reference", "float32", 1});
};

TEST_P(MemoryPricing, IsWhatTheShapesSay) {
  const MemoryPrice price = price_memory(*backend_, maker(GetParam()), GetParam().options);
  const std::unique_ptr<Engine> engine = maker(GetParam())(*backend_);
  EXPECT_EQ(price.kv, engine->info().kv_blocks * engine->info().block_bytes);
  // Small tensors are rounded up; of the file, what the engine does not need is not loaded.
  const int64_t numbers = engine->info().parameters * 4;
  EXPECT_GT(price.weights, numbers / 2);
  EXPECT_LT(price.weights, 2 * numbers);
  EXPECT_GE(price.workspace, price.scratch);
}

// What was reserved is what the widest step takes: it allocates nothing more, and one byte less would have been too little.
TEST_P(MemoryPricing, ReservesTheScratchOfTheWidestStep) {
  const MemoryPrice price = price_memory(*backend_, maker(GetParam()), GetParam().options);
  const std::unique_ptr<Engine> engine = maker(GetParam())(*backend_);
  ASSERT_GT(price.scratch, 0);
  engine->keep_price(price);
  const size_t reserved = engine->scratch_capacity();
  rehearse(*engine, GetParam().options);
  EXPECT_EQ(engine->scratch_capacity(), reserved);
  EXPECT_EQ(engine->scratch_used(), reserved);
  EXPECT_EQ(engine->info().memory->scratch, price.scratch);
}

TEST_P(MemoryPricing, GrowsWithWhatIsAskedFor) {
  Case more = GetParam();
  const MemoryPrice price = price_memory(*backend_, maker(more), more.options);
  (more.options.kv_pictures > 0 ? more.options.kv_pictures : more.options.kv_blocks) *= 2;
  more.options.rehearsal.pictures *= 2;
  more.options.rehearsal.grid_height *= 2;
  const MemoryPrice larger = price_memory(*backend_, maker(more), more.options);
  EXPECT_EQ(larger.kv, 2 * price.kv);
  EXPECT_EQ(larger.weights, price.weights);
  EXPECT_GT(larger.scratch, price.scratch);
}

// The grid of NextStep's pictures is 4 x 4, that of TransDiff's the model's own.
INSTANTIATE_TEST_SUITE_P(
    Golden, MemoryPricing,
    testing::Values(Case{"nextstep-tiny", {.kv_blocks = 64, .max_step_tokens = 128, .rehearsal = {4, 4, 4, 6}}},
                    Case{"transdiff-mrar", {.kv_blocks = 1, .max_step_tokens = 4096, .vae = "", .rehearsal = {2, 1, 1, 10}, .kv_pictures = 4}},
                    Case{"transdiff-one-pass", {.kv_blocks = 1, .max_step_tokens = 4096, .vae = "", .rehearsal = {2, 1, 1, 3}, .kv_pictures = 4}}),
    [](const testing::TestParamInfo<Case>& tested) {
      std::string name = tested.param.folder;
      std::replace(name.begin(), name.end(), '-', '_');
      return name;
    });

// A pool that is too small for the batch: those that fit are rehearsed.
TEST(PriceMemory, TakesAPoolThatIsTooSmall) {
  const std::unique_ptr<Backend> backend = make_backend({"reference", "float32", 1});
  const Case tight{"nextstep-tiny", {.kv_blocks = 1, .max_step_tokens = 128, .rehearsal = {4, 4, 4, 6}}};
  EXPECT_GT(price_memory(*backend, maker(tight), tight.options).weights, 0);
}

TEST(CheckFits, SaysAllFigures) {
  const MemoryPrice price{.weights = 8 * kGiB, .kv = 4 * kGiB, .workspace = kGiB};
  check_fits(price, {.free = 13 * kGiB, .total = 16 * kGiB});
  expect_error([&] { check_fits(price, {.free = 13 * kGiB - 1, .total = 16 * kGiB}); }, ErrorCode::kOutOfMemory,
               "weights 8.00 GiB, KV cache 4.00 GiB, workspace 1.00 GiB, together 13.00 GiB; the device has 13.00 GiB free of 16.00 GiB; "
               "99 % of the KV cache would fit");
  expect_error([&] { check_fits(price, {.free = 2 * kGiB, .total = 16 * kGiB}); }, ErrorCode::kOutOfMemory, "2.00 GiB free of 16.00 GiB");
}

TEST(PricingBackend, CountsWhatLives) {
  const std::unique_ptr<Backend> real = make_backend({"reference", "float32", 1});
  PricingBackend counting(*real);
  Storage kept = counting.allocate(100);
  EXPECT_EQ(counting.live(), 256);
  counting.allocate((size_t{3} << 20) + 1);  // whole pages of 2 MiB, and gone at once
  EXPECT_EQ(counting.live(), 256);
  EXPECT_EQ(counting.most(), 256 + (int64_t{4} << 20));
  kept.reset();
  EXPECT_EQ(counting.live(), 0);
  const Tensor tensor = counting.make(DType::kF32, {3});
  std::vector<float> values(3, 1.0f);
  counting.download(tensor, values.data());
  EXPECT_EQ(values, std::vector<float>(3, 0.0f));
}

}  // namespace
}  // namespace ardiff
