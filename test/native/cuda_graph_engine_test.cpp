// The engines on the cuda backend with graphs: pictures that come and go, speculate, wait and share steps have the bytes that they
// have without, and the graphs did take part.
#include "support/accelerated_class_model.h"
#include "support/class_studio.h"
#include "support/speculation_fixture.h"

namespace ardiff::testing_support {
namespace {

#if ARDIFF_WITH_CUDA

using test::ClassStudio;

class CudaGraphEngine : public testing::TestWithParam<const char*> {
 protected:
  // Without graphs, with them; empty where there is no device.
  std::vector<std::unique_ptr<Backend>> backends() {
    std::vector<std::unique_ptr<Backend>> out;
    try {
      for (const bool graphs : {false, true}) out.push_back(make_backend({.name = "cuda", .dtype = GetParam(), .graphs = graphs}));
    } catch (const Error& error) {
      const char* expected = std::getenv("ARDIFF_EXPECT_CUDA");
      EXPECT_FALSE(expected != nullptr && std::strcmp(expected, "1") == 0) << error.what();
      out.clear();
    }
    return out;
  }
};

INSTANTIATE_TEST_SUITE_P(Dtypes, CudaGraphEngine, testing::Values("float32", "bfloat16"), [](const auto& of) { return std::string(of.param); });

// One guidance row or two, other prompts, other timesteps; one is preempted, one comes when another has gone.
std::map<uint32_t, Tokens> draw_in_turns(Backend& backend, bool with_drafts) {
  NextStepEngine engine(backend, accelerated_model().path(), {.kv_blocks = 151, .max_step_tokens = 512, .accelerator = accelerated_model().accelerator().string()});
  Studio studio(engine, 3, 7);
  std::map<uint32_t, Tokens> out;
  std::vector<SequenceSpec> specs = {plain_picture(1, "a red fox", 11), plain_picture(2, "a blue whale in the sea", 12, 1), plain_picture(3, "two cats", 13, 1, 2)};
  if (with_drafts) {
    specs[1] = speculating(plain_picture(2, "a blue whale in the sea", 12), SpeculationMode::kExact, 3);
    specs[2] = speculating(plain_picture(3, "two cats", 13, 1, 2), SpeculationMode::kRelaxed, 3, 0.5);
    specs[2].speculation->gate.kind = speculation::GateKind::kLogistic;  // never stops, but reads entropies on the way
  }
  studio.begin(std::span(specs).first(2));
  for (int turn = 0; turn < 3; ++turn) studio.decode();
  studio.begin(specs[2]);
  for (int turn = 0; turn < 2; ++turn) studio.decode(2);
  studio.preempt(1, 5);
  while (!studio.is_done()) studio.decode();
  for (const uint32_t id : {1u, 2u, 3u}) out[id] = studio.finish(id).tokens;
  // Rows of pools and blocks are handed out again.
  out[4] = studio.draw(plain_picture(4, "a red fox", 11)).tokens;
  return out;
}

TEST_P(CudaGraphEngine, SameBytesAsWithout) {
  const auto both = backends();
  if (both.empty()) GTEST_SKIP() << "no CUDA device";
  for (const bool with_drafts : {false, true}) {
    const StretchCounts before = both[1]->stretch_counts();
    const auto expected = draw_in_turns(*both[0], with_drafts), got = draw_in_turns(*both[1], with_drafts);
    for (const auto& [id, tokens] : expected) EXPECT_EQ(got.at(id), tokens) << "picture " << id << (with_drafts ? ", drafted" : "");
    const StretchCounts after = both[1]->stretch_counts();
    EXPECT_GT(after.recorded, before.recorded + 2);
    EXPECT_GT(after.replayed - before.replayed, 2 * (after.recorded - before.recorded)) << "recorded for nothing";
    std::printf("  %ld plain, %ld recorded, %ld replayed, %ld kept of %ld launches\n", after.plain - before.plain, after.recorded - before.recorded,
                after.replayed - before.replayed, after.kept, after.kept_ops);
  }
  EXPECT_EQ(both[0]->stretch_counts().replayed, 0);
}

TEST_P(CudaGraphEngine, SameBytesOfAClassModel) {
  const auto both = backends();
  if (both.empty()) GTEST_SKIP() << "no CUDA device";
  const AcceleratedClassModel model;
  std::vector<std::vector<float>> expected;
  for (const auto& backend : both) {
    TransDiffEngine engine(*backend, model.path(), {.kv_blocks = 151, .max_step_tokens = 512, .accelerator = model.accelerator().string()});
    ClassStudio studio(engine, 5, 3);
    std::vector<std::vector<float>> latents;
    for (const auto& [id, few_step] : {std::pair{1u, 0}, {2u, 2}, {3u, 0}}) {
      SequenceSpec spec;
      spec.id = id;
      spec.class_label = id;
      spec.grid_height = spec.grid_width = 4;
      spec.seed = 70 + id;
      spec.sampler = {.sampler = Sampler::kMaruyama, .timesteps = 6, .drift_scale = 0.9, .noise_scale = 0.93};
      spec.guidance_scale = 1.3;
      spec.few_step = few_step;
      latents.push_back(studio.solo(spec, 4));
    }
    if (expected.empty()) expected = latents;
    EXPECT_EQ(latents, expected);
  }
  EXPECT_GT(both[1]->stretch_counts().replayed, both[1]->stretch_counts().recorded);
}

#else

TEST(CudaGraphEngine, IsNotPartOfThisBuild) { EXPECT_THROW(make_backend({"cuda", "auto", 0}), Error); }

#endif

}  // namespace
}  // namespace ardiff::testing_support
