// A TransDiff engine loaded without its caches: the same pictures to the bit, made of nothing that an earlier timestep or pass
// has left behind.
#include "engine/recomputation.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "engine/engine.h"
#include "expect_error.h"
#include "support/class_folders.h"
#include "support/class_studio.h"

namespace ardiff {
namespace {

using test::ClassStudio;
using testing_support::ClassSetting;
using testing_support::kOnePass;
using testing_support::kPasses;
using testing_support::Setting;

constexpr int32_t kBlocks = 101;

struct Recomputed {
  std::vector<float> latents;
  int64_t transformer_rows = 0;
};

class RecomputationTest : public testing::TestWithParam<ClassSetting> {
 protected:
  static const Setting& setting() { return std::get<0>(GetParam()); }
  static bool in_passes() { return std::get<1>(GetParam()) == kPasses; }
  std::unique_ptr<TransDiffEngine> load(bool caches) {
    LoadOptions options{.kv_blocks = kBlocks, .max_step_tokens = 256, .vae = ""};
    options.caches = caches;
    return std::make_unique<TransDiffEngine>(*backend_, std::get<1>(GetParam()), options);
  }
  static SequenceSpec picture(const TransDiffEngine& engine, uint32_t id, int64_t label, double guidance) {
    SequenceSpec spec;
    spec.id = id;
    spec.class_label = label;
    spec.grid_height = spec.grid_width = engine.config().grid;
    spec.seed = 11 + id;
    spec.sampler = {.sampler = Sampler::kMaruyama, .timesteps = 3, .drift_scale = 0.9, .noise_scale = 0.93};
    spec.guidance_scale = guidance;
    return spec;
  }
  // One timestep a step. `forgetful`: before every step the picture's blocks receive what lies in others, which is zeros.
  static Recomputed draw(TransDiffEngine& engine, const SequenceSpec& spec, bool forgetful = false) {
    ClassStudio studio(engine, 0, 1);
    const auto tables = studio.tables(spec);
    Recomputed out;
    int64_t done = 0;
    for (bool fresh = true; done < studio.total(spec); fresh = false) {
      StepPlan plan;
      if (fresh) plan.admit = {spec};
      int32_t source = kBlocks;
      for (const auto& table : tables) {
        for (const int32_t block : table) {
          if (forgetful) plan.copies.insert(plan.copies.end(), {--source, block});
        }
      }
      studio.advance(plan, spec, tables, done, 1);
      out.transformer_rows += engine.step(plan).backbone_tokens;
    }
    out.latents = studio.finish(spec.id);
    return out;
  }

  std::unique_ptr<Backend> backend_ = make_backend({setting().backend, setting().dtype, 2});
};

TEST_P(RecomputationTest, DrawsTheSameBits) {
  const auto cached = load(true), uncached = load(false);
  for (const double guidance : {1.0, 1.5}) {
    const SequenceSpec spec = picture(*cached, 1, 2, guidance);
    EXPECT_EQ(draw(*uncached, spec).latents, draw(*cached, spec).latents) << "guidance " << guidance;
  }
}

TEST_P(RecomputationTest, DrawsTheSameBitsInACrowd) {
  const auto cached = load(true), uncached = load(false);
  const std::vector<SequenceSpec> specs = {picture(*cached, 1, 2, 1.5), picture(*cached, 2, 0, 1.0), picture(*cached, 3, 1, 2.5)};
  ClassStudio studio(*uncached, 5, 3);
  std::vector<std::vector<ClassStudio::Table>> tables;
  for (const auto& spec : specs) tables.push_back(studio.tables(spec));
  std::vector<int64_t> done(specs.size(), 0);
  const int64_t total = studio.total(specs[0]);
  // Each joins a step after the one before, so they are at other passes and timesteps of one batch.
  for (int64_t step = 0; *std::min_element(done.begin(), done.end()) < total; ++step) {
    StepPlan plan;
    for (size_t i = 0; i < specs.size(); ++i) {
      if (step < static_cast<int64_t>(i) || done[i] == total) continue;
      if (done[i] == 0) plan.admit.push_back(specs[i]);
      studio.advance(plan, specs[i], tables[i], done[i], 1 + static_cast<int64_t>(i));
    }
    uncached->step(plan);
  }
  for (const auto& spec : specs) EXPECT_EQ(studio.finish(spec.id), draw(*cached, spec).latents) << "picture " << spec.id;
}

// Of keys and values nothing is read that was not written in the same timestep; with caches the same loss is another picture.
TEST_P(RecomputationTest, NeedsNoKeysAndValuesOfEarlierTimesteps) {
  const auto cached = load(true), uncached = load(false);
  const SequenceSpec spec = picture(*cached, 1, 2, 1.5);
  const std::vector<float> wanted = draw(*cached, spec).latents;
  EXPECT_EQ(draw(*uncached, spec, true).latents, wanted);
  EXPECT_NE(draw(*cached, spec, true).latents, wanted) << "the loss reaches nothing";
}

TEST_P(RecomputationTest, RunsTheTransformerOverEverythingEveryTime) {
  const auto cached = load(true), uncached = load(false);
  const TransDiffConfig& config = cached->config();
  const SequenceSpec spec = picture(*cached, 1, 2, 1.5);
  int64_t whole = 0;
  for (int64_t pass = 0; pass < config.num_passes; ++pass) whole += 2 * config.positions_of_pass(pass);
  for (int again = 0; again < 2; ++again) {
    EXPECT_EQ(draw(*uncached, spec).transformer_rows, whole);
    // Without references a class is computed once for all pictures.
    EXPECT_EQ(draw(*cached, spec).transformer_rows, in_passes() || again == 0 ? 2 * config.positions() : 0);
  }
}

TEST_P(RecomputationTest, AProbeOfWholePicturesIsRefused) {
  const auto engine = load(false);
  const int64_t size = engine->config().latent_size();
  const HostArray labels{{0}, {1}}, noise{std::vector<float>(static_cast<size_t>(size)), {1, 1, size, 1}};
  expect_error([&] { engine->probe_class_to_latent(labels, noise, noise, picture(*engine, 1, 0, 1.0)); }, ErrorCode::kInvalidArgument, "without its caches");
}

INSTANTIATE_TEST_SUITE_P(Settings, RecomputationTest, testing::Combine(testing::ValuesIn(testing_support::settings()), testing::Values(kPasses, kOnePass)),
                         testing_support::class_setting_name);

TEST(WithoutCaches, IsRefusedWhereItMeansNothing) {
  const auto backend = make_backend({.name = "reference", .dtype = "float32", .threads = 1});
  const auto load = [&](const std::filesystem::path& folder, const std::string& accelerator) {
    LoadOptions options{.kv_blocks = 64, .max_step_tokens = 256, .accelerator = accelerator};
    options.caches = false;
    load_engine(*backend, folder, options);
  };
  expect_error([&] { load(testing_support::golden_dir() / "nextstep-tiny", ""); }, ErrorCode::kInvalidArgument, "for TransDiff models");
  expect_error([&] { load(kPasses, (kPasses / "accelerator").string()); }, ErrorCode::kInvalidArgument, "without its accelerator");
}

}  // namespace
}  // namespace ardiff
