// How often a step waits for its backend: once a round that drafts, whatever is in it; gates and traces once more for each pass of the
// draft model, since what they read decides whether to go on.
#include "backend/reference/reference_backend.h"
#include "support/speculation_fixture.h"

namespace ardiff {
namespace {

using namespace testing_support;

class CountingBackend final : public ReferenceBackend {
 public:
  void download(const TensorView& src, void* dst) override {
    ++waits;
    ReferenceBackend::download(src, dst);
  }
  void download_all(std::span<const Download> parts) override {
    ++waits;
    for (const Download& part : parts) ReferenceBackend::download(part.from, part.to);
  }
  int64_t waits = 0;
};

class SpeculationWaits : public testing::Test {
 protected:
  // Waits of each step until all of them are done.
  std::vector<int64_t> count(const std::vector<SequenceSpec>& specs, int64_t rounds = 1) {
    Studio studio(engine_);
    studio.begin(specs);
    std::vector<int64_t> out;
    while (!studio.is_done()) {
      const int64_t before = backend_.waits;
      studio.decode(rounds);
      out.push_back(backend_.waits - before);
    }
    rounds_.clear();
    for (const SequenceSpec& spec : specs) rounds_.push_back(studio.finish(spec.id).rounds);
    return out;
  }

  CountingBackend backend_;
  NextStepEngine engine_{backend_, accelerated_model().path(), {.kv_blocks = 151, .max_step_tokens = 512, .accelerator = accelerated_model().accelerator().string()}};
  std::vector<std::vector<RoundRecord>> rounds_;  // of the pictures counted last
};

TEST_F(SpeculationWaits, OnceARoundThatDrafts) {
  for (const int64_t few_step : {0, 1, 2}) {
    for (const SpeculationMode mode : {SpeculationMode::kExact, SpeculationMode::kRelaxed}) {
      if (few_step > 0 && mode == SpeculationMode::kExact) continue;
      const auto waits = count({speculating(plain_picture(1, "a cat", 3, few_step > 0 ? 1 : 2, few_step), mode, 4, 1.0)});
      ASSERT_EQ(waits.size(), rounds_[0].size());
      for (size_t i = 0; i < waits.size(); ++i) EXPECT_EQ(waits[i], rounds_[0][i].drafted > 0 ? 1 : 0) << "round " << i;
      EXPECT_GT(rounds_[0].front().drafted, 1) << "one after the other, without a wait between them";
    }
  }
}

TEST_F(SpeculationWaits, OnceForTheWholeBatch) {
  std::vector<SequenceSpec> specs = {speculating(plain_picture(1, "a", 3), SpeculationMode::kExact, 4), speculating(plain_picture(2, "b", 4, 1, 1), SpeculationMode::kRelaxed, 3, 1.0),
                                     speculating(plain_picture(3, "c", 5, 3), SpeculationMode::kRelaxed, 2, 1.0, Drafting::kParallel), plain_picture(4, "d", 6)};
  const auto waits = count(specs);
  for (size_t i = 0; i + 1 < waits.size(); ++i) EXPECT_LE(waits[i], 1);
  EXPECT_EQ(waits.front(), 1);
  EXPECT_EQ(count({plain_picture(1, "a", 3), plain_picture(2, "b", 4, 1, 2)}), std::vector<int64_t>(12, 0)) << "nothing to hear of where nothing is drafted";
}

TEST_F(SpeculationWaits, RoundsOfOneStepWaitOnceEach) {
  const auto waits = count({speculating(plain_picture(1, "a", 3), SpeculationMode::kRelaxed, 3, 0.0)}, 12);
  ASSERT_EQ(waits.size(), 1u);
  EXPECT_EQ(waits[0], 11) << "12 rounds, of which the last has no room for a draft";
}

// What the gate reads comes before every draft of a sequential chain; of a parallel one, once.
TEST_F(SpeculationWaits, GatesWaitForTheDraftModel) {
  for (const Drafting drafting : {Drafting::kSequential, Drafting::kParallel}) {
    SequenceSpec spec = speculating(plain_picture(1, "a", 3), SpeculationMode::kExact, 3, 0.0, drafting);
    spec.speculation->gate.kind = speculation::GateKind::kLogistic;
    spec.speculation->gate.weights = {20, 0, 0, 0, 0, 0};  // never stops
    spec.speculation->gate.threshold = 0.5;
    const auto waits = count({spec});
    EXPECT_EQ(rounds_[0].front().drafted, 3);
    EXPECT_EQ(waits.front(), drafting == Drafting::kSequential ? 4 : 2);
  }
}

}  // namespace
}  // namespace ardiff
