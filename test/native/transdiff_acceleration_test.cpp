// Few-step decoder and drafted references of TransDiff (docs/speculation.md, Passes), on every compiled backend and dtype: what a
// jump is given, the same bits however a picture comes about, and what drafts may and may not change.
#include <gtest/gtest.h>

#include <cmath>

#include "expect_error.h"
#include "support/accelerated_class_model.h"
#include "support/class_studio.h"
#include "support/golden_dir.h"
#include "support/settings.h"

namespace ardiff {
namespace {

using test::ClassStudio;
using testing_support::AcceleratedClassModel;
using testing_support::Setting;

const AcceleratedClassModel& shared_model() {
  static const AcceleratedClassModel model;
  return model;
}

LoadOptions with_accelerator(const AcceleratedClassModel& model) {
  return {.kv_blocks = 151, .max_step_tokens = 512, .accelerator = model.accelerator().string()};
}

// 3 passes, a grid of 4. Timesteps 6, guidance 1.3.
SequenceSpec picture(uint32_t id, int64_t label, uint64_t seed, int64_t few_step = 0, double guidance = 1.3) {
  SequenceSpec spec;
  spec.id = id;
  spec.class_label = label;
  spec.grid_height = spec.grid_width = 4;
  spec.seed = seed;
  spec.sampler = {.sampler = Sampler::kMaruyama, .timesteps = 6, .drift_scale = 0.9, .noise_scale = 0.93};
  spec.guidance_scale = guidance;
  spec.few_step = few_step;
  return spec;
}

SequenceSpec drafting(SequenceSpec spec, double tolerance, int64_t jumps = 2) {
  SpeculationSpec& speculation = spec.speculation.emplace();
  speculation.tolerance = tolerance;
  speculation.draft_jumps = jumps;
  speculation.costs = {1.0, 1.0, 0.05, 0.1};
  speculation.acceptance = 0.7;
  speculation.adaptive = false;
  speculation.trace = true;
  return spec;
}

constexpr double kNothingExceeds = 1e30;

std::vector<float> pass_of(const ClassStudio::Drawn& drawn, size_t pass) {
  const size_t size = drawn.latents.size() / 3;
  return {drawn.latents.begin() + static_cast<std::ptrdiff_t>(pass * size), drawn.latents.begin() + static_cast<std::ptrdiff_t>((pass + 1) * size)};
}

class TransDiffAcceleration : public testing::TestWithParam<Setting> {
 protected:
  ClassStudio::Drawn draw(const SequenceSpec& spec, int64_t timesteps = 3) { return ClassStudio(engine_, 3, 7).draw(spec, timesteps); }

  std::unique_ptr<Backend> backend_ = make_backend({GetParam().backend, GetParam().dtype, 2});
  TransDiffEngine engine_{*backend_, shared_model().path(), with_accelerator(shared_model())};
};

// The interval's embedding is that of 1000 (t - r), added to the time's: with the time's own silenced, the decoder is the model's
// at that time, bit for bit.
TEST_P(TransDiffAcceleration, AJumpsLengthIsEmbeddedAsATimeIs) {
  AcceleratedClassModel model;
  model.write(model.few_step_of_length());
  TransDiffEngine engine(*backend_, model.path(), with_accelerator(model));
  HostArray x{{}, {2, 16, 4}}, condition{{}, {2, 8, 24}};
  for (int i = 0; i < 2 * 16 * 4; ++i) x.data.push_back(std::sin(static_cast<float>(i)));
  for (int i = 0; i < 2 * 8 * 24; ++i) condition.data.push_back(std::cos(0.7f * static_cast<float>(i)));
  const HostArray jump = engine.probe_few_step(x, {{1.0f, 0.75f}, {2}}, {{0.5f, 0.0f}, {2}}, condition);
  EXPECT_EQ(jump.data, engine.probe_decoder_call(x, condition, {{500.0f, 750.0f}, {2}}).data);
  EXPECT_NE(jump.data, engine.probe_few_step(x, {{1.0f, 0.75f}, {2}}, {{0.25f, 0.0f}, {2}}, condition).data);
}

// Every mode, other classes and seeds; each joins when the one before is some steps on, in steps of any length. All of it against
// each picture alone.
TEST_P(TransDiffAcceleration, SameBitsAloneAndInACrowdOfAllModes) {
  std::vector<SequenceSpec> specs = {picture(1, 2, 11), picture(2, 0, 12, 2), drafting(picture(3, 1, 11), 0), drafting(picture(4, 2, 13, 1), 0, 1),
                                     picture(5, 4, 14, 4, 1.0), drafting(picture(6, 5, 15), 0, 4), drafting(picture(7, 3, 16, 4), 0, 2), picture(8, 3, 16, 1)};
  // A tolerance between the two references' distances: one is kept, one is not.
  for (SequenceSpec& spec : specs) {
    if (!spec.speculation) continue;
    SequenceSpec loose = spec;
    loose.speculation->tolerance = kNothingExceeds;
    const std::vector<float> statistics = draw(loose).statistics();
    ASSERT_EQ(statistics.size(), 2u);
    spec.speculation->tolerance = 0.5 * (static_cast<double>(statistics[0]) + static_cast<double>(statistics[1]));
  }
  std::vector<ClassStudio::Drawn> alone;
  for (const SequenceSpec& spec : specs) alone.push_back(ClassStudio(engine_, 7, 1).draw(spec, 1));
  int64_t kept = 0, refused = 0;
  for (size_t i = 0; i < specs.size(); ++i) {
    ASSERT_TRUE(std::all_of(alone[i].latents.begin(), alone[i].latents.end(), [](float v) { return std::isfinite(v); }));
    kept += alone[i].kept();
    refused += alone[i].drafted() - alone[i].kept();
    EXPECT_EQ(ClassStudio(engine_, 31, 2).draw(specs[i], kMaxStepTimesteps).latents, alone[i].latents) << "in long steps, picture " << i;
  }
  EXPECT_GT(kept, 0);
  EXPECT_GT(refused, 0);

  ClassStudio studio(engine_, 3, 5);
  std::vector<std::vector<ClassStudio::Table>> tables;
  for (const auto& spec : specs) tables.push_back(studio.tables(spec));
  std::vector<int64_t> done(specs.size(), 0);
  const auto finished = [&](size_t i) { return done[i] == studio.total(specs[i]); };
  for (size_t step = 0;; ++step) {
    StepPlan plan;
    std::vector<size_t> planned;
    for (size_t i = 0; i < specs.size(); ++i) {
      if (step < i || finished(i)) continue;
      if (step == i) plan.admit.push_back(specs[i]);
      studio.plan_next(plan, specs[i], tables[i], done[i], 1 + static_cast<int64_t>((step + i) % 4));
      planned.push_back(i);
    }
    if (planned.empty()) break;
    const StepResult result = engine_.step(plan);
    for (size_t j = 0; j < planned.size(); ++j) done[planned[j]] = result.decode[j].emitted_tokens;
  }
  for (size_t i = 0; i < specs.size(); ++i) EXPECT_EQ(studio.finish(specs[i].id), alone[i].latents) << "picture " << i;
}

// Keys and values are computed again, in other blocks, by one prefill over all passes; what was judged stays judged.
TEST_P(TransDiffAcceleration, SameBitsAfterPreemptionAnywhere) {
  for (const int64_t few_step : {0, 2}) {
    SequenceSpec spec = drafting(picture(1, 2, 17, few_step), kNothingExceeds);
    const std::vector<float> statistics = draw(spec).statistics();
    spec.speculation->tolerance = 0.5 * (static_cast<double>(statistics[0]) + static_cast<double>(statistics[1]));
    const ClassStudio::Drawn undisturbed = draw(spec);
    ClassStudio studio(engine_, 9, 2);
    auto tables = studio.tables(spec);
    int64_t done = 0;
    for (bool fresh = true; done < studio.total(spec); fresh = false) {
      StepPlan plan;
      if (fresh) plan.admit = {spec};
      studio.plan_next(plan, spec, tables, done, 1);
      done = engine_.step(plan).decode[0].emitted_tokens;
      if (done == studio.total(spec)) break;
      tables = studio.tables(spec);
      StepPlan again;
      const PassSteps steps = studio.steps(spec);
      const int64_t passes = steps.pass_at(done) + (done == steps.begin_of(steps.pass_at(done)) ? 0 : 1);
      studio.prefill(again, spec, tables, 0, passes);
      engine_.step(again);
    }
    EXPECT_EQ(studio.finish(spec.id), undisturbed.latents);
  }
}

// Nothing is kept but what equals the model's, whatever was drafted: refused references are drawn as if nothing had been.
TEST_P(TransDiffAcceleration, ToleranceZeroIsModeOff) {
  const ClassStudio::Drawn plain = draw(picture(1, 4, 5));
  for (const int64_t jumps : {1, 2, 4}) {
    const ClassStudio::Drawn strict = draw(drafting(picture(1, 4, 5), 0.0, jumps));
    EXPECT_EQ(strict.latents, plain.latents);
    EXPECT_EQ(strict.drafted(), 2) << "the last pass is never drafted";
    EXPECT_EQ(strict.kept(), 0);
    EXPECT_EQ(strict.accepted, std::vector<uint8_t>(18, 0));
    // With few steps the references are the model's, the picture is the few-step decoder's.
    const ClassStudio::Drawn both = draw(drafting(picture(1, 4, 5, 2), 0.0, jumps));
    EXPECT_EQ(pass_of(both, 0), pass_of(plain, 0));
    EXPECT_EQ(pass_of(both, 1), pass_of(plain, 1));
    EXPECT_NE(pass_of(both, 2), pass_of(plain, 2));
    EXPECT_EQ(both.accepted.size(), 6u + 6u + 2u);
  }
}

// Kept drafts are the few-step decoder's passes, of the same features and the same noise.
TEST_P(TransDiffAcceleration, KeptDraftsAreTheFewStepDecodersPasses) {
  const ClassStudio::Drawn plain = draw(picture(1, 4, 5));
  for (const int64_t jumps : {1, 2, 4}) {
    const ClassStudio::Drawn few = draw(picture(1, 4, 5, jumps));
    const ClassStudio::Drawn relaxed = draw(drafting(picture(1, 4, 5), kNothingExceeds, jumps));
    EXPECT_EQ(relaxed.kept(), 2);
    EXPECT_EQ(pass_of(relaxed, 0), pass_of(few, 0));
    EXPECT_EQ(pass_of(relaxed, 1), pass_of(few, 1));
    EXPECT_NE(pass_of(relaxed, 2), pass_of(few, 2)) << "the picture itself is the model's";
    EXPECT_NE(pass_of(relaxed, 2), pass_of(plain, 2)) << "after other references";
    EXPECT_EQ(relaxed.accepted.size(), 18u);
    EXPECT_EQ(std::count(relaxed.accepted.begin(), relaxed.accepted.end(), 1), 12);
    EXPECT_EQ(draw(drafting(picture(1, 4, 5, jumps), kNothingExceeds, jumps)).latents, few.latents) << "both: all passes are the few-step decoder's";
  }
}

// Puts given latents where drafts go, along paths of the model's own velocities.
class TargetDrafter final : public ReferenceDrafter {
 public:
  TargetDrafter(const ReferenceParts& parts, std::vector<float> latents) : p_(parts), latents_(std::move(latents)) {}

  ReferencePaths draw(std::span<const ReferenceRequest> requests, const TensorView& latents, int64_t& evaluations) override {
    ReferencePaths paths;
    std::vector<PassPoints> points;
    int64_t rows = 0;
    for (const ReferenceRequest& request : requests) {
      const TimestepTable& judged = *request.sequence->drafting->judged;
      points.push_back({request.sequence, &judged, static_cast<int32_t>(rows), request.conditions});
      paths.first.push_back(rows);
      rows += static_cast<int64_t>(judged.steps.size());
      const int32_t row = request.sequence->latent_rows[static_cast<size_t>(request.pass)];
      p_.backend.upload(latents.row_slice(row, row + 1), latents_.data() + request.pass * p_.latent_size);
    }
    paths.record = {p_.scratch.take(DType::kF32, {rows, p_.latent_size}), p_.scratch.take(DType::kF32, {rows, p_.latent_size})};
    const std::vector<float> somewhere(static_cast<size_t>(rows * p_.latent_size), 0.25f);
    p_.backend.upload(paths.record.states, somewhere.data());
    p_.model.evaluate(points, paths.record.states, p_.model_layers, paths.record.velocity, evaluations);
    return paths;
  }

 private:
  ReferenceParts p_;
  std::vector<float> latents_;
};

// Drafts that are the model's own are all kept, with a tolerance of nothing, and the picture is that of mode off.
TEST_P(TransDiffAcceleration, DraftsOfTheModelItselfAreAllAccepted) {
  for (const double guidance : {1.0, 1.3}) {
    const ClassStudio::Drawn plain = draw(picture(1, 1, 23, 0, guidance));
    engine_.set_drafter([&](const ReferenceParts& parts) { return std::make_unique<TargetDrafter>(parts, plain.latents); });
    const ClassStudio::Drawn fast = draw(drafting(picture(1, 1, 23, 0, guidance), 0.0));
    EXPECT_EQ(fast.kept(), 2);
    EXPECT_EQ(fast.statistics(), (std::vector<float>{0.0f, 0.0f}));
    EXPECT_EQ(fast.latents, plain.latents);
    EXPECT_EQ(fast.rounds.size(), 2u);
  }
}

// A decoder whose pictures are off is refused where the tolerance is that of one that is not, and then changes nothing.
TEST_P(TransDiffAcceleration, APlantedBadDraftIsRefused) {
  AcceleratedClassModel model;
  model.write(model.few_step_off_by(3.0f));
  TransDiffEngine bad(*backend_, model.path(), with_accelerator(model));
  for (const int64_t jumps : {1, 2, 4}) {
    SequenceSpec spec = drafting(picture(1, 3, 29), kNothingExceeds, jumps);
    const std::vector<float> good = draw(spec).statistics();
    spec.speculation->tolerance = 1.05 * static_cast<double>(std::max(good[0], good[1]));
    EXPECT_EQ(draw(spec).kept(), 2);
    const ClassStudio::Drawn refused = ClassStudio(bad, 3, 7).draw(spec, 3);
    EXPECT_EQ(refused.drafted(), 2);
    EXPECT_EQ(refused.kept(), 0);
    EXPECT_EQ(refused.latents, draw(picture(1, 3, 29)).latents);
  }
}

// What is not a number is within no tolerance.
TEST_P(TransDiffAcceleration, ADraftThatIsNotANumberIsRefused) {
  AcceleratedClassModel model;
  model.write(model.few_step_off_by(std::numeric_limits<float>::quiet_NaN()));
  TransDiffEngine bad(*backend_, model.path(), with_accelerator(model));
  const ClassStudio::Drawn refused = ClassStudio(bad, 3, 7).draw(drafting(picture(1, 3, 29), kNothingExceeds), 3);
  EXPECT_EQ(refused.kept(), 0);
  EXPECT_EQ(refused.latents, draw(picture(1, 3, 29)).latents);
}

// The same rule as for tokens, of the stored costs and the picture's own history: one reference at a time.
TEST_P(TransDiffAcceleration, DraftsOnlyWhereThatPays) {
  SequenceSpec spec = drafting(picture(1, 0, 8), kNothingExceeds);
  spec.speculation->adaptive = true;
  EXPECT_EQ(draw(spec).drafted(), 2);
  spec.speculation->costs.verify = 0.8;  // of a pass, at an acceptance of 0.7
  const ClassStudio::Drawn plain = draw(spec);
  EXPECT_EQ(plain.drafted(), 0);
  EXPECT_EQ(plain.rounds.size(), 2u);
  EXPECT_EQ(plain.latents, draw(picture(1, 0, 8)).latents);
  // One refusal lowers what is expected of the next below what it costs.
  spec.speculation->tolerance = 0;
  spec.speculation->costs.verify = 0.6;
  EXPECT_EQ(draw(spec).drafted(), 1);
}

TEST_P(TransDiffAcceleration, ACancelledSequenceStopsAndTheOthersGoOn) {
  const SequenceSpec staying = drafting(picture(1, 0, 3), kNothingExceeds), leaving = drafting(picture(2, 1, 4), kNothingExceeds);
  const ClassStudio::Drawn alone = draw(staying);
  ClassStudio studio(engine_, 0, 1);
  const auto a = studio.tables(staying), b = studio.tables(leaving);
  StepPlan first;
  first.admit = {staying, leaving};
  studio.plan_next(first, staying, a, 0, 3);
  studio.plan_next(first, leaving, b, 0, 3);
  const StepResult drafted = engine_.step(first);
  EXPECT_EQ(drafted.decode[0].emitted_tokens, 6);
  engine_.cancel(leaving.id);
  int64_t done = 6;
  for (bool both = true; done < studio.total(staying); both = false) {
    StepPlan plan;
    studio.plan_next(plan, staying, a, done, 3);
    if (both) studio.plan_next(plan, leaving, b, 6, 3);
    const StepResult result = engine_.step(plan);
    done = result.decode[0].emitted_tokens;
    EXPECT_FALSE(result.decode[0].cancelled);
    if (!both) continue;
    EXPECT_TRUE(result.decode[1].cancelled);
    EXPECT_EQ(result.decode[1].emitted_tokens, 6);
  }
  EXPECT_EQ(studio.finish(staying.id), alone.latents);
  studio.finish(leaving.id);
}

TEST_P(TransDiffAcceleration, PicturesOfPassesAreTakenWhereTheyEnd) {
  const SequenceSpec spec = drafting(picture(1, 0, 3, 2), kNothingExceeds);
  ClassStudio studio(engine_, 0, 1);
  const auto tables = studio.tables(spec);
  std::vector<int64_t> shown;
  int64_t done = 0;
  for (bool fresh = true; done < studio.total(spec); fresh = false) {
    StepPlan plan;
    if (fresh) plan.admit = {spec};
    studio.plan_next(plan, spec, tables, done, 2);
    done = engine_.step(plan).decode[0].emitted_tokens;
    StepPlan picture_plan;
    picture_plan.vae = {{spec.id, done}};
    shown.push_back(engine_.step(picture_plan).images.at(0).tokens);
  }
  EXPECT_EQ(shown, (std::vector<int64_t>{6, 12, 14}));
  studio.finish(spec.id);
}

TEST_P(TransDiffAcceleration, RefusesWhatItCannotDo) {
  const auto refused = [](TransDiffEngine& engine, SequenceSpec spec, const std::string& part) {
    StepPlan plan;
    plan.admit = {std::move(spec)};
    expect_error([&] { engine.step(plan); }, ErrorCode::kInvalidArgument, part);
  };
  const auto changed = [](auto change) {
    SequenceSpec spec = drafting(picture(1, 0, 1), 0.5);
    change(*spec.speculation);
    return spec;
  };
  refused(engine_, picture(1, 0, 1, 3), "3 is not one of 0, 1, 2, 4");
  refused(engine_, changed([](SpeculationSpec& s) { s.mode = SpeculationMode::kExact; }), "cannot be verified exactly");
  refused(engine_, changed([](SpeculationSpec& s) { s.draft_jumps = 0; }), "0 is not one of 1, 2, 4 jumps");
  refused(engine_, changed([](SpeculationSpec& s) { s.draft_jumps = 3; }), "3 is not one of 1, 2, 4 jumps");
  refused(engine_, changed([](SpeculationSpec& s) { s.drafting = Drafting::kParallel; }), "need a draft model");
  refused(engine_, changed([](SpeculationSpec& s) { s.gate.kind = speculation::GateKind::kPaper; }), "need a draft model");
  refused(engine_, changed([](SpeculationSpec& s) { s.tolerance = INFINITY; }), "tolerance");
  refused(engine_, changed([](SpeculationSpec& s) { s.costs.plain = 0; }), "cost");
  refused(engine_, changed([](SpeculationSpec& s) { s.acceptance = 2; }), "acceptance");
  SequenceSpec noisy = picture(1, 0, 1, 2);
  noisy.noise.resize(65);
  refused(engine_, noisy, "recorded noise has 65 numbers, expected 64");
  TransDiffEngine bare(*backend_, shared_model().path(), {.kv_blocks = 151, .max_step_tokens = 512});
  refused(bare, picture(1, 0, 1, 2), "no few-step decoder is loaded");
  refused(bare, drafting(picture(1, 0, 1), 0.5), "no few-step decoder is loaded");
  EXPECT_LT(bare.info().block_bytes, engine_.info().block_bytes) << "the few-step decoder's keys and values take room";
}

INSTANTIATE_TEST_SUITE_P(Settings, TransDiffAcceleration, testing::ValuesIn(testing_support::settings()), testing_support::setting_name);

// A model of one pass has no references; its passes may be of few steps.
TEST(TransDiffAccelerationOfOnePass, HasFewStepsOnly) {
  const auto folder = testing_support::golden_dir() / "transdiff-one-pass";
  testing_support::TempDir dir;
  testing_support::NamedTensors few = testing_support::renamed(testing_support::read_tensors(folder / "model.safetensors"), "diffdecoder.net.", "diffdecoder.net.");
  std::mt19937 random(3);
  for (const char* part : {"linear_1.weight", "linear_1.bias", "linear_2.weight", "linear_2.bias"}) {
    few[std::string("diffdecoder.net.interval_embed.") + part] =
        testing_support::random_tensor(random, few.at(std::string("diffdecoder.net.time_embed.time_embedder.") + part).shape, 0.3f);
  }
  dir.write("few_step.safetensors", testing_support::safetensors_file(few, true));
  const auto backend = make_backend({.name = "reference", .dtype = "float32", .threads = 1});
  TransDiffEngine engine(*backend, folder, {.kv_blocks = 101, .max_step_tokens = 256, .accelerator = dir.path().string(), .vae = ""});
  SequenceSpec spec = picture(1, 1, 5, 2);
  spec.grid_height = spec.grid_width = engine.config().grid;
  const ClassStudio::Drawn once = ClassStudio(engine, 0, 1).draw(spec, 1), twice = ClassStudio(engine, 40, 3).draw(spec, 8);
  EXPECT_EQ(once.latents, twice.latents);
  EXPECT_TRUE(std::all_of(once.latents.begin(), once.latents.end(), [](float v) { return std::isfinite(v); }));
  StepPlan plan;
  spec.few_step = 0;
  plan.admit = {drafting(spec, 0.5)};
  expect_error([&] { engine.step(plan); }, ErrorCode::kInvalidArgument, "no references");
}

TEST(BrokenTransDiffAccelerator, IsRefusedAtLoad) {
  const auto backend = make_backend({.name = "reference", .dtype = "float32", .threads = 1});
  const auto refused = [&](const AcceleratedClassModel& model, const std::string& part) {
    expect_error([&] { TransDiffEngine(*backend, model.path(), with_accelerator(model)); }, ErrorCode::kInvalidModel, part);
  };
  AcceleratedClassModel model;
  testing_support::NamedTensors tensors = model.few_step();
  tensors.erase("diffdecoder.net.interval_embed.linear_2.bias");
  model.write(tensors);
  refused(model, "tensor 'diffdecoder.net.interval_embed.linear_2.bias' of shape [24] is missing");
  tensors = model.few_step();
  tensors.erase("diffdecoder.net.res_blocks.0.norm1.weight");
  model.write(tensors);
  refused(model, "tensor 'diffdecoder.net.res_blocks.0.norm1.weight'");
  model.write({{"a", {{1}, {0.0f}}}});
  refused(model, "a few-step decoder without blocks");
  model.write(model.few_step());
  model.dir().write("accelerator/draft.safetensors", "");
  refused(model, "drafted by the few-step decoder alone");
  std::filesystem::remove_all(model.accelerator());
  refused(model, "no few_step.safetensors");
}

}  // namespace
}  // namespace ardiff
