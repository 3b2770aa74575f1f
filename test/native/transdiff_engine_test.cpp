// The TransDiff engine's promises about a picture's bits, on every compiled backend and dtype: the same alone, in a crowd at
// any progress, in other KV blocks, in steps of any length, after preemption. And what it answers to wrong plans and folders.
#include "engine/transdiff_engine.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <thread>

#include "expect_error.h"
#include "io/mmap_file.h"
#include "io/safetensors.h"
#include "support/class_folders.h"
#include "support/class_studio.h"
#include "temp_dir.h"

namespace ardiff {
namespace {

using test::ClassStudio;
using testing_support::ClassSetting;
using testing_support::kClassVae;
using testing_support::kOnePass;
using testing_support::kPasses;
using testing_support::Setting;
using testing_support::TempDir;
using Latents = std::vector<float>;

SequenceSpec picture(const TransDiffEngine& engine, uint32_t id, int64_t label, uint64_t seed, int64_t timesteps, double guidance) {
  SequenceSpec spec;
  spec.id = id;
  spec.class_label = label;
  spec.grid_height = spec.grid_width = engine.config().grid;
  spec.seed = seed;
  spec.sampler = {.sampler = Sampler::kMaruyama, .timesteps = timesteps, .drift_scale = 0.9, .noise_scale = 0.93};
  spec.guidance_scale = guidance;
  return spec;
}

class TransDiffEngineTest : public testing::TestWithParam<ClassSetting> {
 protected:
  static const Setting& setting() { return std::get<0>(GetParam()); }
  static bool in_passes() { return std::get<1>(GetParam()) == kPasses; }

  std::unique_ptr<Backend> backend_ = make_backend({setting().backend, setting().dtype, 2});
  TransDiffEngine engine_{*backend_, std::get<1>(GetParam()), {.kv_blocks = 101, .max_step_tokens = 256, .vae = kClassVae}};
};

// Four pictures with other classes, timesteps and guidance; each joins when the one before is some steps on, and every
// step has another number of timesteps. All of it against each picture alone, one timestep a step, in other blocks.
TEST_P(TransDiffEngineTest, SameBitsAloneAndInACrowdAtAnyProgress) {
  const std::vector<SequenceSpec> specs = {picture(engine_, 1, 2, 11, 6, 1.3), picture(engine_, 2, 0, 12, 9, 1.0), picture(engine_, 3, 1, 11, 4, 2.5),
                                           picture(engine_, 4, 2, (uint64_t{1} << 53) - 1, 6, 1.3)};
  std::vector<Latents> alone;
  for (const auto& spec : specs) alone.push_back(ClassStudio(engine_, 7, 1).solo(spec, 1));
  for (const Latents& latents : alone) {
    ASSERT_EQ(static_cast<int64_t>(latents.size()), engine_.config().num_passes * engine_.config().latent_size());
    ASSERT_TRUE(std::all_of(latents.begin(), latents.end(), [](float v) { return std::isfinite(v); }));
  }
  EXPECT_NE(alone[0], alone[3]) << "another seed is another picture";

  ClassStudio studio(engine_, 3, 5);
  std::vector<std::vector<ClassStudio::Table>> tables;
  for (const auto& spec : specs) tables.push_back(studio.tables(spec));
  std::vector<int64_t> done(specs.size(), 0);
  for (int64_t step = 0; !std::equal(done.begin(), done.end(), specs.begin(), [&](int64_t d, const SequenceSpec& s) { return d == studio.total(s); }); ++step) {
    StepPlan plan;
    for (size_t i = 0; i < specs.size(); ++i) {
      if (step < 2 * static_cast<int64_t>(i) || done[i] == studio.total(specs[i])) continue;
      if (done[i] == 0) plan.admit.push_back(specs[i]);
      studio.advance(plan, specs[i], tables[i], done[i], 1 + (step + static_cast<int64_t>(i)) % 4);
    }
    engine_.step(plan);
  }
  for (size_t i = 0; i < specs.size(); ++i) EXPECT_EQ(studio.finish(specs[i].id), alone[i]) << "picture " << i;
}

TEST_P(TransDiffEngineTest, SameBitsInLongSteps) {
  const SequenceSpec spec = picture(engine_, 1, 1, 5, 11, 1.5);
  const Latents single = ClassStudio(engine_, 0, 1).solo(spec, 1);
  EXPECT_EQ(ClassStudio(engine_, 20, 3).solo(spec, kMaxStepTimesteps), single);
}

// The state of a pass and the latents of earlier ones stay; keys and values are computed again, in other blocks, by one
// prefill over all passes.
TEST_P(TransDiffEngineTest, SameBitsAfterPreemptionAnywhere) {
  const SequenceSpec spec = picture(engine_, 1, 2, 17, 5, 1.3);
  const Latents undisturbed = ClassStudio(engine_, 0, 1).solo(spec, 2);
  ClassStudio studio(engine_, 9, 2);
  auto tables = studio.tables(spec);
  int64_t done = 0;
  for (bool fresh = true; done < studio.total(spec); fresh = false) {
    StepPlan plan;
    if (fresh) plan.admit = {spec};
    studio.advance(plan, spec, tables, done, 1);
    engine_.step(plan);
    if (done == studio.total(spec)) break;
    // Somebody else's keys and values are in the old blocks from here on.
    tables = studio.tables(spec);
    StepPlan again;
    if (done % spec.sampler.timesteps != 0) {
      studio.prefill(again, spec, tables, 0, done / spec.sampler.timesteps + 1);
    } else {
      studio.prefill(again, spec, tables, 0, done / spec.sampler.timesteps);
    }
    engine_.step(again);
  }
  EXPECT_EQ(studio.finish(spec.id), undisturbed);
}

TEST_P(TransDiffEngineTest, PicturesOfPassesAreTheSameWheneverTheyAreDecoded) {
  const SequenceSpec spec = picture(engine_, 1, 0, 3, 4, 1.3);
  ClassStudio studio(engine_, 0, 1);
  const auto tables = studio.tables(spec);
  std::vector<DecodedImage> at_once;
  int64_t done = 0;
  for (bool fresh = true; done < studio.total(spec); fresh = false) {
    StepPlan plan;
    if (fresh) plan.admit = {spec};
    studio.advance(plan, spec, tables, done, 4);
    plan.vae = {{spec.id, done}};  // of the pass that ends in this step
    at_once.push_back(std::move(engine_.step(plan).images.at(0)));
  }
  StepPlan later;
  for (const DecodedImage& image : at_once) later.vae.push_back({spec.id, image.tokens});
  const StepResult again = engine_.step(later);
  ASSERT_EQ(again.images.size(), static_cast<size_t>(engine_.config().num_passes));
  for (size_t i = 0; i < at_once.size(); ++i) {
    EXPECT_EQ(again.images[i].rgb, at_once[i].rgb);
    EXPECT_EQ(at_once[i].width, engine_.config().grid * engine_.info().pixel_factor);
    EXPECT_EQ(static_cast<int64_t>(at_once[i].rgb.size()), 3 * at_once[i].width * at_once[i].height);
    EXPECT_TRUE(i == 0 || at_once[i].rgb != at_once[i - 1].rgb) << i;
  }
  studio.finish(spec.id);
}

TEST_P(TransDiffEngineTest, ACancelledSequenceStopsAndTheOthersGoOn) {
  const SequenceSpec staying = picture(engine_, 1, 0, 3, 9, 1.3), leaving = picture(engine_, 2, 1, 4, 6, 1.3);
  const Latents alone = ClassStudio(engine_, 50, 1).solo(staying, 3);
  ClassStudio studio(engine_, 0, 1);
  const auto a = studio.tables(staying), b = studio.tables(leaving);
  int64_t done = 0, counted = 0;
  StepPlan first;
  first.admit = {staying, leaving};
  studio.advance(first, staying, a, done, 3);
  studio.advance(first, leaving, b, counted, 3);
  engine_.step(first);
  engine_.cancel(leaving.id);
  StepPlan second;
  studio.advance(second, staying, a, done, 3);
  studio.advance(second, leaving, b, counted, 3);
  second.vae = {{leaving.id, 6}};  // planned before the flag was set
  const StepResult result = engine_.step(second);
  EXPECT_FALSE(result.decode[0].cancelled);
  EXPECT_EQ(result.decode[0].emitted_tokens, 6);
  EXPECT_TRUE(result.decode[1].cancelled);
  EXPECT_EQ(result.decode[1].emitted_tokens, 3);
  EXPECT_TRUE(result.images.empty());
  // Made before the flag was set, too, and counting on a finished pass: left out, not refused.
  StepPlan third;
  studio.advance(third, staying, a, done, 3);
  if (in_passes()) studio.advance(third, leaving, b, counted, 3);
  const StepResult late = engine_.step(third);
  EXPECT_FALSE(late.decode[0].cancelled);
  EXPECT_TRUE(!in_passes() || late.decode[1].emitted_tokens == 3);
  while (done < studio.total(staying)) {
    StepPlan plan;
    studio.advance(plan, staying, a, done, 3);
    engine_.step(plan);
  }
  EXPECT_EQ(studio.finish(staying.id), alone);
  studio.finish(leaving.id);
}

// From another thread, while a long step runs: the rest of it is not computed.
TEST_P(TransDiffEngineTest, ACancelIsSeenAtTheNextTimestep) {
  const SequenceSpec spec = picture(engine_, 1, 0, 3, 1000, 1.3);
  ClassStudio studio(engine_, 0, 1);
  const auto tables = studio.tables(spec);
  int64_t done = 0;
  StepPlan first;
  first.admit = {spec};
  studio.advance(first, spec, tables, done, 8);
  engine_.step(first);
  std::thread other([&] { engine_.cancel(spec.id); });
  StepResult result;
  do {
    StepPlan plan;
    studio.advance(plan, spec, tables, done, 8);
    result = engine_.step(plan);
  } while (!result.decode[0].cancelled && done < spec.sampler.timesteps);
  other.join();
  EXPECT_TRUE(result.decode[0].cancelled);
  EXPECT_LT(result.decode[0].emitted_tokens, done);
  studio.finish(spec.id);
}

TEST_P(TransDiffEngineTest, RefusesWrongPlansAndChangesNothing) {
  const SequenceSpec good = picture(engine_, 1, 0, 3, 4, 1.3);
  const auto admit = [&](auto change, const std::string& part) {
    StepPlan plan;
    plan.admit = {good};
    change(plan.admit[0]);
    expect_error([&] { engine_.step(plan); }, ErrorCode::kInvalidArgument, part);
  };
  admit([](SequenceSpec& s) { s.class_label = 99; }, "class 99 outside");
  admit([](SequenceSpec& s) { s.class_label = -1; }, "class -1 outside");
  admit([](SequenceSpec& s) { s.prompt_rows = {{1}}; }, "takes a class");
  admit([](SequenceSpec& s) { s.grid_width += 1; }, "this model draws");
  admit([](SequenceSpec& s) { s.seed = uint64_t{1} << 53; }, "2^53");
  admit([](SequenceSpec& s) { s.sampler.sampler = Sampler::kB; }, "sampler");
  admit([](SequenceSpec& s) { s.sampler.noise_scale = -1; }, "scales");
  admit([](SequenceSpec& s) { s.sampler.timesteps = 0; }, "timesteps 0");
  admit([](SequenceSpec& s) { s.guidance_scale = 0.5; }, "below 1");
  admit([](SequenceSpec& s) { s.guidance_scale = NAN; }, "below 1 or not finite");
  admit([](SequenceSpec& s) { s.few_step = 1; }, "few steps");
  admit([](SequenceSpec& s) { s.noise = {1.0f}; }, "recorded noise");

  ClassStudio studio(engine_, 0, 1);
  const auto tables = studio.tables(good);
  const int64_t positions = engine_.config().positions_of_pass(0);
  const auto step = [&](auto change, const std::string& part) {
    StepPlan plan;
    change(plan);
    expect_error([&] { engine_.step(plan); }, ErrorCode::kInvalidPlan, part);
  };
  step([&](StepPlan& p) { p.decode = {{1, tables, 1}}; }, "not live");
  StepPlan start;
  start.admit = {good};
  engine_.step(start);
  step([&](StepPlan& p) { p.admit = {good}; }, "live already");
  step([&](StepPlan& p) { p.decode = {{1, tables, 1}}; }, "has computed 0 passes");
  step([&](StepPlan& p) { p.prefill = {{1, 0, 0, positions - 1, tables[0]}}; }, "no whole number of passes");
  step([&](StepPlan& p) { p.prefill = {{1, 2, 0, positions, tables[0]}}; }, "has no row 2");
  step([&](StepPlan& p) { p.prefill = {{1, 0, 0, positions, {0}}}; }, "block table of 1 blocks");
  step([&](StepPlan& p) { p.prefill = {{1, 0, 0, positions, ClassStudio::Table(tables[0].size(), 101)}}; }, "block 101 outside");
  step([&](StepPlan& p) { p.prefill = {{1, 0, 0, positions, tables[0]}, {1, 0, 0, positions, tables[0]}}; }, "prefilled twice");
  if (in_passes()) {
    step([&](StepPlan& p) { p.prefill = {{1, 0, 0, engine_.config().positions_of_pass(1), tables[0]}}; }, "prefill of 2 passes, 1 are known");
    step([&](StepPlan& p) { p.prefill = {{1, 0, positions, engine_.config().positions_of_pass(1), tables[0]}}; }, "prefill from pass 1, 0 are computed");
  }
  StepPlan prefill;
  studio.prefill(prefill, good, tables, 0, 1);
  engine_.step(prefill);
  step([&](StepPlan& p) { p.decode = {{1, tables, 5}}; }, "5 timesteps");
  step([&](StepPlan& p) { p.decode = {{1, {tables[0]}, 1}}; }, "1 block tables for 2 rows");
  step([&](StepPlan& p) { p.decode = {{1, tables, 1}}, p.vae = {{1, 4}}; }, "no finished pass");
  step([&](StepPlan& p) { p.decode = {{1, tables, 4}}, p.vae = {{1, 3}}; }, "no finished pass");
  step([&](StepPlan& p) { p.read = {{1, 0, 1}}; }, "rows to read");
  step([&](StepPlan& p) { p.copies = {0, 0}; }, "both source and destination");
  int64_t done = 0;
  for (bool first = true; done < studio.total(good); first = false) {
    StepPlan plan;
    studio.advance(plan, good, tables, done, 4);
    if (first) plan.prefill.clear();  // it is done
    engine_.step(plan);
  }
  step([&](StepPlan& p) { p.decode = {{1, tables, 1}}; }, "is complete");
  const Latents after = studio.finish(1);
  EXPECT_EQ(after, ClassStudio(engine_, 31, 1).solo(good, 4)) << "refused plans left something behind";
}

TEST_P(TransDiffEngineTest, APictureNeedsAVae) {
  TransDiffEngine engine(*backend_, std::get<1>(GetParam()), {.kv_blocks = 101, .max_step_tokens = 256, .vae = ""});
  ClassStudio studio(engine, 0, 1);
  const SequenceSpec spec = picture(engine, 1, 0, 3, 4, 1.0);
  StepPlan plan;
  int64_t done = 0;
  plan.admit = {spec};
  studio.advance(plan, spec, studio.tables(spec), done, 4);
  plan.vae = {{1, 4}};
  expect_error([&] { engine.step(plan); }, ErrorCode::kInvalidPlan, "without its VAE");
}

INSTANTIATE_TEST_SUITE_P(Settings, TransDiffEngineTest, testing::Combine(testing::ValuesIn(testing_support::settings()), testing::Values(kPasses, kOnePass)),
                         testing_support::class_setting_name);

// Noise drawn from seeds is the noise that train/ drew from them: the latents it recorded come out without it.
TEST(TransDiffNoise, IsThatOfTheRecordedSeeds) {
  const auto backend = make_backend({.name = "reference", .dtype = "float32", .threads = 1});
  TransDiffEngine engine(*backend, kPasses, {.kv_blocks = 64, .max_step_tokens = 256});
  const MmapFile file(kPasses / "fixtures.safetensors");
  const auto fixtures = parse_safetensors(file.bytes(), "fixtures");
  const auto* recorded = static_cast<const float*>(fixtures.at("guided_latents").data);
  const auto* labels = static_cast<const float*>(fixtures.at("guided_labels").data);
  const uint64_t seeds[] = {7, 1099511627779};
  const int64_t n = engine.config().latent_tokens(), c = engine.config().latent_channels;
  for (uint32_t i = 0; i < 2; ++i) {
    const Latents latents = ClassStudio(engine, 0, 1).solo(picture(engine, i, static_cast<int64_t>(labels[i]), seeds[i], 6, 1.3), 6);
    const float* last = latents.data() + latents.size() - n * c;
    for (int64_t token = 0; token < n; ++token) {
      for (int64_t channel = 0; channel < c; ++channel) {
        ASSERT_NEAR(last[token * c + channel], recorded[(static_cast<int64_t>(i) * c + channel) * n + token], 2e-4) << "picture " << i;
      }
    }
  }
}

// A copy of a folder with one file replaced: the engine says what is wrong.
class BrokenTransDiffFolder : public testing::Test {
 protected:
  BrokenTransDiffFolder() {
    std::filesystem::copy(kOnePass, dir_.path(), std::filesystem::copy_options::recursive);
    std::filesystem::copy(kClassVae, dir_.path() / "vae", std::filesystem::copy_options::recursive);
  }
  void expect(const std::string& part) {
    const auto backend = make_backend({.name = "reference", .dtype = "float32", .threads = 1});
    expect_error([&] { load_engine(*backend, dir_.path(), {.kv_blocks = 8, .max_step_tokens = 64}); }, ErrorCode::kInvalidModel, part);
  }
  void config(const std::string& key, const std::string& value) {
    nlohmann::json json = read_json_file(kOnePass / "config.json");
    json[key] = nlohmann::json::parse(value);
    dir_.write("config.json", json.dump());
  }
  // One byte of the header changed: the tensor is there no more.
  void rename(const std::string& file, const std::string& from, const std::string& to) {
    const MmapFile original((file.starts_with("vae/") ? kPasses : kOnePass) / file);
    std::string text(reinterpret_cast<const char*>(original.bytes().data()), original.bytes().size());
    text.replace(text.find('"' + from + '"') + 1, from.size(), to);
    dir_.write(file, text);
  }
  TempDir dir_;
};

TEST_F(BrokenTransDiffFolder, ConfigThatContradictsTheWeights) {
  config("width", "64");
  expect("expected shape [3, 64] from the config, found [3, 16]");
  config("num_heads", "5");
  expect("not a multiple of num_heads");
  config("transformer_blocks", "1");
  expect("2 blocks named encoder_blocks.*, the config says 1");
  config("diffusion_blocks", "3");
  expect("2 blocks named diffdecoder.net.res_blocks.*, the config says 3");
  config("num_classes", "4");
  expect("class_emb.weight");
  config("buffer_size", "9");
  expect("encoder_pos_embed_learned");
  config("image_size", "17");
  expect("image_size 17");
  config("image_size", "32");
  expect("diffdecoder.net.diffusion_pos_embed_learned");
  config("architecture", "\"transdiff-mrar\"");
  expect("mask_token");
  config("vae_ch", "33");
  expect("multiple of GroupNorm's 32");
  config("vae_num_res_blocks", "2");
  expect("decoder.up.1.block.2");
}

TEST_F(BrokenTransDiffFolder, MissingTensors) {
  rename("model.safetensors", "fake_latent", "fake_patent");
  expect("tensor 'fake_latent' of shape [1, 16] is missing");
  rename("model.safetensors", "diffdecoder.net.res_blocks.1.attn2.wv.bias", "diffdecoder.net.res_blocks.1.attn2.wx.bias");
  expect("tensor 'diffdecoder.net.res_blocks.1.attn2.wv.bias' of shape [16] is missing");
  rename("model.safetensors", "z_proj.weight", "z_prod.weight");
  expect("tensor 'z_proj.weight'");
}

TEST_F(BrokenTransDiffFolder, Vae) {
  rename("vae/model.safetensors", "post_quant_conv.bias", "post_quant_conv.bios");
  expect("post_quant_conv.bias");
  std::filesystem::remove(dir_.path() / "vae/model.safetensors");
  expect("neither model.safetensors nor a single other");
}

TEST(LoadEngine, ReadsTheFamilyFromTheConfig) {
  const auto backend = make_backend({.name = "reference", .dtype = "float32", .threads = 1});
  const auto family = [&](const std::filesystem::path& folder) { return load_engine(*backend, folder, {.kv_blocks = 8, .max_step_tokens = 64})->info().family; };
  EXPECT_EQ(family(kPasses), "transdiff");
  EXPECT_EQ(family(testing_support::golden_dir() / "nextstep-tiny"), "nextstep");
}

}  // namespace
}  // namespace ardiff
