// The engines on the cuda backend with graphs: pictures that come and go, speculate, wait and share steps have the bytes that they
// have without, and the graphs did take part.
#include "support/cuda_device.h"
#include "support/mixed_drawing.h"

namespace ardiff::testing_support {
namespace {

class CudaGraphEngine : public testing::TestWithParam<const char*> {
 protected:
  // Without graphs, with them; empty where there is no device, and the test is over.
  std::vector<std::unique_ptr<Backend>> backends() {
    std::vector<std::unique_ptr<Backend>> out;
    (void)test::made_on_cuda([&] {
      for (const bool graphs : {false, true}) out.push_back(make_backend({.name = "cuda", .dtype = GetParam(), .graphs = graphs}));
    });
    return out;
  }
};

INSTANTIATE_TEST_SUITE_P(Dtypes, CudaGraphEngine, testing::Values("float32", "bfloat16"), [](const auto& of) { return std::string(of.param); });

TEST_P(CudaGraphEngine, SameBytesAsWithout) {
  const auto both = backends();
  if (both.empty()) return;
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
  if (both.empty()) return;
  const AcceleratedClassModel model;
  std::vector<std::vector<float>> expected;
  for (const auto& backend : both) {
    const std::vector<std::vector<float>> latents = draw_classes(*backend, model);
    if (expected.empty()) expected = latents;
    EXPECT_EQ(latents, expected);
  }
  EXPECT_GT(both[1]->stretch_counts().replayed, both[1]->stretch_counts().recorded);
}

}  // namespace
}  // namespace ardiff::testing_support
