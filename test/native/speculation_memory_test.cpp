// What a round leaves behind: after any history of kept and dropped drafts the engine's memory is that of a fresh prefill
// of the emitted tokens, nothing beyond it is read, and a picture is the same to the byte in every crowd.
#include <chrono>
#include <cmath>
#include <thread>

#include "support/engine_memory.h"
#include "support/speculation_fixture.h"
#include "support/target_drafter.h"

namespace ardiff {
namespace {

using namespace testing_support;

// Pictures of every mode, on grids and prompts of several sizes; `variant` changes their seeds.
std::vector<SequenceSpec> mixed(uint64_t variant) {
  std::vector<SequenceSpec> out = {
      speculating(plain_picture(1, "a cat", 11), SpeculationMode::kExact, 3),
      speculating(plain_picture(2, "a very long prompt about dogs and houses", 12, 1, 1), SpeculationMode::kRelaxed, 5, 0.35),
      plain_picture(3, "x", 13, 2),
      speculating(plain_picture(4, "a cat", 14, 1), SpeculationMode::kExact, 4, 0, Drafting::kParallel),
      speculating(plain_picture(5, "", 15, 3), SpeculationMode::kRelaxed, 2, 1.2),
      speculating(plain_picture(6, "a tree", 16, 1, 4), SpeculationMode::kRelaxed, 15, 0.4, Drafting::kParallel),
      plain_picture(7, "a prompt of more than one block of sixteen", 17, 1, 2),
      speculating(plain_picture(8, "a house", 18, 3), SpeculationMode::kExact, 2),
  };
  out[2].sampler = {.sampler = Sampler::kA, .timesteps = 5, .shift = 1.0, .level = 0.8};  // not to be verified, drawn plainly beside the others
  for (size_t i = 0; i < out.size(); ++i) {
    out[i].seed += 100 * variant;
    out[i].grid_height = 2 + static_cast<int64_t>(i + variant) % 3;
    if (!out[i].speculation) continue;
    SpeculationSpec& speculation = *out[i].speculation;
    speculation.adaptive = i % 2 == 1;
    speculation.trace = i % 3 == 1;
    if (i == 0) {
      speculation.gate.kind = speculation::GateKind::kPaper;
      speculation.gate.mean = 0.9;
      speculation.gate.std = 0.1;
    }
    if (i == 5) {
      speculation.gate.kind = speculation::GateKind::kLogistic;
      speculation.gate.weights = {2, 0.5, 1.0, -0.2, 0.1, -0.5};
      speculation.gate.threshold = 0.6;
      speculation.gate_layer = 1;
    }
  }
  return out;
}

class SpeculationMemory : public SpeculationTest {
 protected:
  SpeculationMemory() {
    engine_.set_drafter([this](const DraftParts& parts) {
      auto drafter = std::make_unique<WatchingDrafter>(parts);
      watched_ = drafter.get();
      return drafter;
    });
  }
  Drawn alone(const SequenceSpec& spec) { return Studio(engine_, 3, 1).draw(spec); }

  WatchingDrafter* watched_ = nullptr;
};

void expect_same(const Drawn& got, const Drawn& expected, uint32_t id) {
  EXPECT_EQ(got.tokens, expected.tokens) << "picture " << id;
  EXPECT_EQ(got.accepted, expected.accepted) << "picture " << id;
  const auto same = [](double a, double b) { return a == b || (std::isnan(a) && std::isnan(b)); };
  ASSERT_EQ(got.rounds.size(), expected.rounds.size()) << "picture " << id;
  for (size_t i = 0; i < got.rounds.size(); ++i) {
    EXPECT_EQ(got.rounds[i].drafted, expected.rounds[i].drafted);
    EXPECT_EQ(got.rounds[i].gate_stopped, expected.rounds[i].gate_stopped);
    EXPECT_TRUE(same(got.rounds[i].draft_entropy, expected.rounds[i].draft_entropy)) << "picture " << id << ", round " << i;
    EXPECT_TRUE(same(got.rounds[i].target_entropy, expected.rounds[i].target_entropy)) << "picture " << id << ", round " << i;
  }
}

// C16. Compared as bytes, not within a tolerance: same kernels, same order, whatever the batch.
TEST_P(SpeculationMemory, AfterAnyHistoryMemoryIsThatOfAFreshPrefill) {
  std::mt19937 random(5);
  const int histories = repetitions(2, 25);
  int64_t corrected = 0, kept = 0, dropped = 0;
  for (int history = 0; history < histories; ++history) {
    for (const SequenceSpec& spec : mixed(static_cast<uint64_t>(history))) {
      if (!spec.speculation) continue;
      const Drawn undisturbed = alone(spec);
      Studio studio(engine_, 70, 3);
      studio.begin(spec);
      const EngineMemory memory(*watched_);
      while (!studio.is_done()) {
        studio.decode(1 + static_cast<int64_t>(random() % 3));
        if (studio.is_done()) break;
        const Sequence& sequence = *watched_->sequences.at(spec.id);
        corrected += sequence.speculation->pending_step > 0;
        // Noise that an exact verification has looked at is never drawn again; relaxed pictures have one noise a token.
        int64_t attempts = 0, discarded = 0;
        for (const uint32_t attempt : sequence.speculation->attempts) attempts += attempt;
        const Drawn& so_far = studio.picture(spec.id).drawn;
        if (spec.speculation->mode == SpeculationMode::kExact) discarded = so_far.drafted() - so_far.kept();
        EXPECT_EQ(attempts, discarded);
        const int64_t pairs = sequence.speculation->draft_computed;
        const EngineMemory::Snapshot before = memory.take(studio.picture(spec.id), pairs);
        studio.preempt(spec.id, 1 + static_cast<int64_t>(random() % 20));
        EXPECT_EQ(sequence.speculation->draft_computed, studio.picture(spec.id).known(0) - 1);
        const EngineMemory::Snapshot after = memory.take(studio.picture(spec.id), pairs);
        SCOPED_TRACE(testing::Message() << "picture " << spec.id << " of history " << history << " after " << sequence.emitted << " tokens");
        for (size_t r = 0; r < before.target.size(); ++r) EXPECT_TRUE(before.target[r] == after.target[r]) << "target's cache, row " << r;
        EXPECT_TRUE(before.draft == after.draft) << "draft's cache";
        EXPECT_TRUE(before.hidden == after.hidden) << "features";
      }
      const Drawn preempted = studio.finish(spec.id);
      expect_same(preempted, undisturbed, spec.id);
      kept += preempted.kept();
      dropped += preempted.drafted() - preempted.kept();
    }
  }
  // The histories were histories.
  EXPECT_GT(corrected, 0);
  EXPECT_GT(kept, 0);
  EXPECT_GT(dropped, 0);
}

// C17. Nothing reads what it did not write: all of it is NaN before every step.
TEST_P(SpeculationMemory, WhatNoLengthReachesIsNeverRead) {
  for (int history = 0; history < repetitions(1, 6); ++history) {
    std::vector<SequenceSpec> specs = mixed(static_cast<uint64_t>(40 + history));
    std::erase_if(specs, [](const SequenceSpec& spec) { return !spec.speculation; });
    std::vector<Drawn> clean;
    for (const SequenceSpec& spec : specs) clean.push_back(alone(spec));
    const EngineMemory memory(*watched_);
    memory.spoil_all_but({});
    Studio studio(engine_, 40, 7);
    studio.begin(specs);
    while (!studio.is_done()) {
      studio.decode();
      std::vector<const Studio::Picture*> pictures;
      for (const SequenceSpec& spec : specs) pictures.push_back(&studio.picture(spec.id));
      memory.spoil_all_but(pictures);
    }
    for (size_t i = 0; i < specs.size(); ++i) expect_same(studio.finish(specs[i].id), clean[i], specs[i].id);
  }
}

// C18. Crowds of 2 to 8, of all modes; some join later, each runs some rounds a step.
TEST_P(SpeculationMemory, SameBytesAloneAndInEveryCrowd) {
  std::mt19937 random(9);
  for (int crowd = 0; crowd < repetitions(2, 20); ++crowd) {
    std::vector<SequenceSpec> specs = mixed(static_cast<uint64_t>(10 + crowd));
    std::vector<Drawn> expected;
    for (const SequenceSpec& spec : specs) expected.push_back(alone(spec));
    for (const size_t size : {size_t{8}, size_t{2} + random() % 6}) {
      std::vector<size_t> members;
      for (size_t i = 0; i < specs.size(); ++i) members.push_back(i);
      std::shuffle(members.begin(), members.end(), random);
      members.resize(size);
      Studio studio(engine_, 20, 11);
      std::vector<size_t> waiting = members, inside;
      while (!waiting.empty() || !studio.is_done()) {
        StepPlan plan;
        for (const size_t i : inside) studio.add_decode(plan, specs[i].id, 1 + static_cast<int64_t>(random() % 3));
        std::shuffle(plan.decode.begin(), plan.decode.end(), random);
        if (!waiting.empty()) {
          studio.add(plan, specs[waiting.back()]);
          inside.push_back(waiting.back());
          waiting.pop_back();
        }
        studio.execute(plan);
      }
      for (const size_t i : members) expect_same(studio.finish(specs[i].id), expected[i], specs[i].id);
    }
  }
}

// Neighbours whose drafts are all kept, mostly dropped, or something between do not move each other.
TEST_P(SpeculationMemory, SameBytesBesideOtherAcceptances) {
  std::vector<SequenceSpec> specs;
  for (uint32_t id = 1; id <= 4; ++id) specs.push_back(speculating(plain_picture(id, "a cat", id, 1 + id % 3), SpeculationMode::kExact, 3));
  engine_.set_drafter([&](const DraftParts& parts) {
    return std::make_unique<TargetDrafter>(parts, accelerated_model().path(), [](const Sequence& sequence, int64_t) {
      constexpr float kSpreads[] = {0.0f, 0.15f, 0.5f, 8.0f};
      return kSpreads[sequence.spec.id - 1];
    });
  });
  std::vector<Drawn> expected;
  for (const SequenceSpec& spec : specs) expected.push_back(alone(spec));
  EXPECT_EQ(expected[0].kept(), expected[0].drafted());
  EXPECT_LT(expected[3].kept(), expected[3].drafted());
  Studio studio(engine_, 30, 5);
  studio.begin(specs);
  while (!studio.is_done()) studio.decode();
  for (size_t i = 0; i < specs.size(); ++i) expect_same(studio.finish(specs[i].id), expected[i], specs[i].id);
}

// A flag that is set while drafts are made: whoever is cancelled has drawn whole tokens, its neighbours notice nothing.
TEST_P(SpeculationMemory, CancelledInTheMiddleOfARound) {
  std::vector<SequenceSpec> specs = mixed(70);
  // Whatever was drafted for these is kept: what was not drafted to its end must not be judged at all.
  for (const size_t i : {1, 4}) specs[i].speculation->tolerance = 1e30;
  std::vector<Drawn> expected;
  for (const SequenceSpec& spec : specs) expected.push_back(alone(spec));
  for (const uint32_t victim : {1u, 2u, 5u, 6u}) {
    const Drawn& whole = expected[victim - 1];
    for (const int moment : {1, 2}) {
      Studio studio(engine_, 60, 3);
      studio.begin(specs);
      int calls = 0;
      watched_->before = [&] {
        if (++calls == moment) engine_.cancel(victim);
      };
      studio.decode(3);
      watched_->before = nullptr;
      EXPECT_TRUE(studio.picture(victim).cancelled);
      while (!studio.is_done()) studio.decode(2);
      for (const SequenceSpec& spec : specs) {
        const int64_t emitted = studio.picture(spec.id).emitted;
        const Drawn drawn = studio.finish(spec.id);
        if (spec.id != victim) {
          expect_same(drawn, expected[spec.id - 1], spec.id);
          continue;
        }
        EXPECT_LT(emitted, spec.grid_height * spec.grid_width);
        ASSERT_EQ(drawn.accepted.size(), static_cast<size_t>(emitted));
        EXPECT_TRUE(std::equal(drawn.tokens.begin(), drawn.tokens.end(), whole.tokens.begin())) << "its tokens are the first ones of the picture";
        EXPECT_TRUE(std::equal(drawn.accepted.begin(), drawn.accepted.end(), whole.accepted.begin()));
      }
    }
  }
}

// Flags set by another thread at any moment, as the server sets them.
TEST_P(SpeculationMemory, CancelledAtAnyMoment) {
  const std::vector<SequenceSpec> specs = mixed(80);
  std::vector<Drawn> expected;
  for (const SequenceSpec& spec : specs) expected.push_back(alone(spec));
  std::mt19937 random(3);
  for (int i = 0; i < repetitions(6, 60); ++i) {
    const uint32_t victim = 1 + static_cast<uint32_t>(random() % specs.size());
    Studio studio(engine_, 60, 3);
    studio.begin(specs);
    std::thread canceller([&, delay = random() % 3000] {
      std::this_thread::sleep_for(std::chrono::microseconds(delay));
      engine_.cancel(victim);
    });
    while (!studio.is_done()) studio.decode(3);
    canceller.join();
    for (const SequenceSpec& spec : specs) {
      const bool cancelled = studio.picture(spec.id).cancelled;
      const Drawn drawn = studio.finish(spec.id);
      if (!cancelled && spec.id == victim) continue;  // seen between its last two rounds, or after them
      if (!cancelled) expect_same(drawn, expected[spec.id - 1], spec.id);
      if (cancelled) {
        EXPECT_EQ(spec.id, victim);
        EXPECT_TRUE(std::equal(drawn.tokens.begin(), drawn.tokens.end(), expected[victim - 1].tokens.begin()));
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Backends, SpeculationMemory, testing::ValuesIn(settings()), setting_name);

}  // namespace
}  // namespace ardiff
