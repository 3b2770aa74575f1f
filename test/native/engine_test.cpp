// The engine's promises about a picture's bits, on every compiled backend and dtype: the same alone, in a crowd,
// in other KV blocks, after preemption, with shared prompt blocks. And what it answers to wrong plans.
#include "engine/nextstep_engine.h"

#include <gtest/gtest.h>

#include <chrono>
#include <cmath>
#include <functional>
#include <map>
#include <thread>

#include "expect_error.h"
#include "support/golden_dir.h"
#include "support/settings.h"

namespace ardiff {
namespace {

using Tokens = std::vector<float>;
using Table = std::vector<int32_t>;
using testing_support::Setting;

std::vector<int32_t> prompt(const std::string& text) {
  std::vector<int32_t> ids(text.begin(), text.end());
  for (const int32_t id : {129, 52, 42, 52, 130}) ids.push_back(id);  // <|image_area|> 4 * 4 boi
  return ids;
}

SequenceSpec picture(uint32_t id, const std::string& text, uint64_t seed, int64_t timesteps = 6, double guidance = 3.0) {
  SequenceSpec spec;
  spec.id = id;
  spec.prompt_rows = {prompt(text)};
  if (guidance != 1.0) spec.prompt_rows.push_back(prompt(""));
  spec.grid_height = spec.grid_width = 4;
  spec.seed = seed;
  spec.sampler.timesteps = timesteps;
  spec.guidance_scale = guidance;
  spec.use_norm = id % 2 == 0;
  return spec;
}

// Draws sequences through step plans, handing out KV blocks from the pool in a scrambled order.
class Drawing {
 public:
  Drawing(NextStepEngine& engine, int32_t first_block, int32_t stride) : engine_(engine), next_block_(first_block), stride_(stride) {}

  Table blocks(int64_t positions) {
    Table out;
    for (int64_t i = 0; i < KvCache::blocks_for(positions); ++i) {
      out.push_back(next_block_);
      next_block_ = (next_block_ + stride_) % static_cast<int32_t>(engine_.info().kv_blocks);
    }
    return out;
  }
  std::vector<Table> tables(const SequenceSpec& spec) {
    std::vector<Table> out;
    for (const auto& row : spec.prompt_rows) out.push_back(blocks(static_cast<int64_t>(row.size()) + spec.grid_height * spec.grid_width));
    return out;
  }
  static void prefill(StepPlan& plan, const SequenceSpec& spec, const std::vector<Table>& tables, int64_t emitted = 0) {
    for (size_t r = 0; r < tables.size(); ++r) {
      plan.prefill.push_back({spec.id, static_cast<int64_t>(r), 0, static_cast<int64_t>(spec.prompt_rows[r].size()) + emitted, tables[r]});
    }
  }
  Tokens solo(const SequenceSpec& spec) {
    const auto t = tables(spec);
    StepPlan first;
    first.admit = {spec};
    prefill(first, spec, t);
    engine_.step(first);
    decode(spec, t, spec.grid_height * spec.grid_width);
    return finish(spec.id);
  }
  void decode(const SequenceSpec& spec, const std::vector<Table>& t, int64_t count) {
    for (int64_t i = 0; i < count; ++i) {
      StepPlan plan;
      plan.decode = {{spec.id, t}};
      engine_.step(plan);
    }
  }
  Tokens finish(uint32_t id) {
    Tokens tokens = engine_.probe_tokens(id).data;
    StepPlan plan;
    plan.release = {id};
    engine_.step(plan);
    return tokens;
  }

 private:
  NextStepEngine& engine_;
  int32_t next_block_;
  int32_t stride_;
};

class EngineTest : public testing::TestWithParam<Setting> {
 protected:
  EngineTest()
      : backend_(make_backend({GetParam().backend, GetParam().dtype, 2})),
        engine_(*backend_, testing_support::golden_dir() / "nextstep-tiny", {.kv_blocks = 101, .max_step_tokens = 256}) {}

  std::unique_ptr<Backend> backend_;
  NextStepEngine engine_;
};

// Several tokens of each picture in one step, of pictures that end at different rounds.
TEST_P(EngineTest, SameTokensInBursts) {
  const std::vector<SequenceSpec> specs = {picture(1, "a cat", 11, 6, 3.0), picture(2, "a very long prompt about dogs and houses", 12, 3, 7.5)};
  std::vector<Tokens> alone;
  for (const auto& spec : specs) alone.push_back(Drawing(engine_, 5, 1).solo(spec));
  for (const auto& counts : std::vector<std::vector<std::pair<int64_t, int64_t>>>{{{16, 16}}, {{5, 1}, {3, 8}, {8, 7}}}) {
    Drawing drawing(engine_, 5, 1);
    std::vector<std::vector<Table>> tables;
    StepPlan first;
    for (const auto& spec : specs) {
      first.admit.push_back(spec);
      tables.push_back(drawing.tables(spec));
      Drawing::prefill(first, spec, tables.back());
    }
    engine_.step(first);
    int64_t drawn_first = 0;
    for (const auto& [one, two] : counts) {
      StepPlan plan;
      plan.decode = {{1, tables[0], one}, {2, tables[1], two}};
      const StepResult result = engine_.step(plan);
      drawn_first += one;
      EXPECT_EQ(result.decode[0].emitted_tokens, drawn_first);
      EXPECT_FALSE(result.decode[0].cancelled);
      EXPECT_FALSE(result.decode[1].cancelled);
    }
    for (size_t i = 0; i < specs.size(); ++i) EXPECT_EQ(drawing.finish(specs[i].id), alone[i]) << "picture " << i;
  }
}

TEST_P(EngineTest, SameTokensAloneAndInACrowd) {
  const std::vector<SequenceSpec> specs = {picture(1, "a cat", 11, 6, 3.0), picture(2, "a very long prompt about dogs and houses", 12, 3, 7.5),
                                           picture(3, "x", 13, 9, 1.0), picture(4, "a cat", 11, 6, 2.0), picture(5, "", 99, 1, 1.5)};
  std::vector<Tokens> alone;
  for (const auto& spec : specs) alone.push_back(Drawing(engine_, 5, 1).solo(spec));

  // Sequence i joins at step i; all decode together from then on.
  Drawing crowd(engine_, 50, 7);
  std::vector<std::vector<Table>> tables;
  for (const auto& spec : specs) tables.push_back(crowd.tables(spec));
  std::vector<int64_t> emitted(specs.size(), 0);
  for (size_t step = 0; step < 30; ++step) {
    StepPlan plan;
    for (size_t i = 0; i < specs.size(); ++i) {
      if (step == i) {
        plan.admit.push_back(specs[i]);
        Drawing::prefill(plan, specs[i], tables[i]);
      } else if (step > i && emitted[i] < 16) {
        plan.decode.insert(plan.decode.begin(), {specs[i].id, tables[i]});
        ++emitted[i];
      }
    }
    engine_.step(plan);
  }
  for (size_t i = 0; i < specs.size(); ++i) EXPECT_EQ(crowd.finish(specs[i].id), alone[i]) << "sequence " << specs[i].id;
  EXPECT_NE(alone[0], alone[3]) << "another guidance scale must give another picture";
}

TEST_P(EngineTest, SameTokensAfterPreemption) {
  const SequenceSpec spec = picture(1, "a house with a garden", 7);
  const Tokens alone = Drawing(engine_, 0, 1).solo(spec);
  for (const int64_t drawn : {1, 5, 15}) {
    Drawing drawing(engine_, 3, 1);
    StepPlan first;
    first.admit = {spec};
    const auto before = drawing.tables(spec);
    Drawing::prefill(first, spec, before);
    engine_.step(first);
    drawing.decode(spec, before, drawn);
    // Its blocks are gone; everything known is computed again, elsewhere and in uneven chunks.
    Drawing other(engine_, 60, 3);
    const auto after = other.tables(spec);
    for (size_t r = 0; r < after.size(); ++r) {
      const int64_t known = static_cast<int64_t>(spec.prompt_rows[r].size()) + drawn;
      for (int64_t begin = 0; begin < known; begin += 7) {
        StepPlan chunk;
        chunk.prefill = {{spec.id, static_cast<int64_t>(r), begin, std::min(known, begin + 7), after[r]}};
        engine_.step(chunk);
      }
    }
    other.decode(spec, after, 16 - drawn);
    EXPECT_EQ(other.finish(spec.id), alone) << "preempted after " << drawn;
  }
}

TEST_P(EngineTest, SharedPromptBlocksAndCopyOnWrite) {
  const SequenceSpec one = picture(1, "a prompt of more than one block", 21), two = picture(3, "a prompt of more than one block", 22);
  const Tokens one_alone = Drawing(engine_, 0, 1).solo(one), two_alone = Drawing(engine_, 0, 1).solo(two);

  // Sequence 1 computes both prompts; sequence 3 shares the full blocks, gets a copy of the last one and computes
  // only the last prompt position itself.
  Drawing drawing(engine_, 10, 1);
  const auto tables = drawing.tables(one);
  StepPlan first;
  first.admit = {one, two};
  Drawing::prefill(first, one, tables);
  engine_.step(first);
  StepPlan second;
  auto shared = drawing.tables(two);
  for (size_t r = 0; r < shared.size(); ++r) {
    const auto length = static_cast<int64_t>(two.prompt_rows[r].size());
    const auto last = static_cast<size_t>((length - 1) / KvCache::kBlockTokens);
    for (size_t i = 0; i < last; ++i) shared[r][i] = tables[r][i];
    second.copies.push_back(tables[r][last]);
    second.copies.push_back(shared[r][last]);
    second.prefill.push_back({two.id, static_cast<int64_t>(r), length - 1, length, shared[r]});
  }
  engine_.step(second);
  for (int i = 0; i < 16; ++i) {
    StepPlan plan;
    plan.decode = {{one.id, tables}, {two.id, shared}};
    engine_.step(plan);
  }
  EXPECT_EQ(drawing.finish(one.id), one_alone);
  EXPECT_EQ(drawing.finish(two.id), two_alone);
}

TEST_P(EngineTest, EverySamplerDrawsItsOwnPicture) {
  std::vector<Tokens> drawn;
  for (const Sampler sampler : {Sampler::kA, Sampler::kB, Sampler::kCSde, Sampler::kCCps, Sampler::kCOde}) {
    SequenceSpec spec = picture(1, "a cat", 5);
    spec.sampler.sampler = sampler;
    drawn.push_back(Drawing(engine_, 0, 1).solo(spec));
    EXPECT_EQ(Drawing(engine_, 40, 3).solo(spec), drawn.back());
    for (const float value : drawn.back()) EXPECT_TRUE(std::isfinite(value));
    for (size_t i = 0; i + 1 < drawn.size(); ++i) EXPECT_NE(drawn[i], drawn.back());
  }
}

TEST_P(EngineTest, NonSquareGridsAndPartialPictures) {
  SequenceSpec spec = picture(1, "wide", 5);
  spec.grid_height = 2;
  spec.grid_width = 3;
  Drawing drawing(engine_, 0, 1);
  const auto tables = drawing.tables(spec);
  StepPlan plan;
  plan.admit = {spec};
  Drawing::prefill(plan, spec, tables);
  plan.vae = {{spec.id, 0}};
  const StepResult empty = engine_.step(plan);
  ASSERT_EQ(empty.images.size(), 1u) << "a picture without tokens decodes too";
  EXPECT_EQ(empty.images[0].height, 32);
  EXPECT_EQ(empty.images[0].width, 48);
  drawing.decode(spec, tables, 6);
  StepPlan last;
  last.vae = {{spec.id, 3}, {spec.id, 6}};
  const StepResult full = engine_.step(last);
  ASSERT_EQ(full.images.size(), 2u);
  EXPECT_EQ(full.images[0].tokens, 3);
  EXPECT_EQ(full.images[1].tokens, 6);
  EXPECT_NE(full.images[0].rgb, empty.images[0].rgb);
  EXPECT_NE(full.images[1].rgb, full.images[0].rgb);
  EXPECT_GT(full.timings.vae, 0.0);
  EXPECT_GT(full.timings.preview, 0.0);
  drawing.finish(spec.id);
}

TEST_P(EngineTest, ReadHandsOutTheTokensAsStored) {
  const SequenceSpec spec = picture(2, "a cat", 11);
  Drawing drawing(engine_, 0, 1);
  const auto tables = drawing.tables(spec);
  StepPlan start;
  start.admit = {spec};
  Drawing::prefill(start, spec, tables);
  EXPECT_TRUE(engine_.step(start).tokens.empty()) << "who does not ask gets none";
  Tokens rows, again;
  for (int64_t drawn = 0; drawn < 16;) {
    StepPlan plan;
    // Bursts that end inside a grid row of 4, at its end, and beyond it.
    const int64_t count = std::min<int64_t>(drawn == 0 ? 3 : 5, 16 - drawn);
    const int64_t begin = drawn / 4 * 4, end = (drawn + count) / 4 * 4;
    plan.decode = {{spec.id, tables, count}};
    if (end > begin) plan.read = {{spec.id, begin, end}, {spec.id, 0, drawn + count}};
    const StepResult result = engine_.step(plan);
    ASSERT_EQ(result.tokens.size(), plan.read.size());
    if (!result.tokens.empty()) {
      EXPECT_EQ(result.tokens[0].begin, begin);
      EXPECT_EQ(result.tokens[0].end, end);
      rows.insert(rows.end(), result.tokens[0].data.begin(), result.tokens[0].data.end());
      again = result.tokens[1].data;
    }
    drawn += count;
  }
  const Tokens stored = drawing.finish(spec.id);
  EXPECT_EQ(stored.size(), 16u * 16u);
  EXPECT_EQ(rows, stored);
  EXPECT_EQ(again, stored);
}

// Looking at a picture changes neither it nor what is seen: not the look before, not how far it has gone on since, not
// who else is in the batch.
TEST_P(EngineTest, PartialPicturesDisturbNothing) {
  // Small, for the reference backend's sake: its decodes are most of the time of this file.
  std::vector<SequenceSpec> specs = {picture(1, "a cat", 11, 6, 3.0), picture(2, "a dog", 12, 3, 7.5)};
  for (auto& spec : specs) spec.grid_height = spec.grid_width = 2;
  std::vector<Tokens> alone;
  for (const auto& spec : specs) alone.push_back(Drawing(engine_, 5, 1).solo(spec));

  using Pictures = std::map<std::pair<uint32_t, int64_t>, std::vector<uint8_t>>;
  const auto draw = [&](const std::vector<SequenceSpec>& drawn, int64_t burst, int64_t late, Pictures& seen) {
    Drawing drawing(engine_, 20, 3);
    std::vector<std::vector<Table>> tables;
    StepPlan first;
    for (const auto& spec : drawn) {
      first.admit.push_back(spec);
      tables.push_back(drawing.tables(spec));
      Drawing::prefill(first, spec, tables.back());
    }
    engine_.step(first);
    for (int64_t emitted = 0; emitted < 4 + late;) {
      StepPlan plan;
      const int64_t count = std::min(burst, std::max<int64_t>(4 - emitted, 0));
      if (count > 0) {
        for (size_t i = 0; i < drawn.size(); ++i) plan.decode.push_back({drawn[i].id, tables[i], count});
      }
      const int64_t before = emitted;
      emitted += count > 0 ? count : 1;
      for (const int64_t tokens : {1, 2}) {
        if (tokens + late <= before || tokens + late > emitted) continue;
        for (const auto& spec : drawn) plan.vae.push_back({spec.id, tokens});
      }
      for (DecodedImage& image : engine_.step(plan).images) seen[{image.sequence, image.tokens}] = std::move(image.rgb);
    }
    std::vector<Tokens> tokens;
    for (const auto& spec : drawn) tokens.push_back(drawing.finish(spec.id));
    return tokens;
  };

  Pictures one, two, together, late;
  EXPECT_EQ(draw({specs[0]}, 1, 0, one)[0], alone[0]);
  EXPECT_EQ(draw({specs[1]}, 2, 0, two)[0], alone[1]);
  EXPECT_EQ(draw(specs, 3, 0, together), alone);
  EXPECT_EQ(draw(specs, 2, 2, late), alone);
  ASSERT_EQ(one.size(), 2u);
  EXPECT_NE((one[{1, 1}]), (one[{1, 2}]));
  one.merge(two);
  EXPECT_EQ(one, together);
  EXPECT_EQ(one, late);
}

TEST_P(EngineTest, CancelStopsOneSequenceAndNobodyElse) {
  const SequenceSpec one = picture(1, "a cat", 11), two = picture(2, "a dog", 12);
  const Tokens alone = Drawing(engine_, 0, 1).solo(one);
  Drawing drawing(engine_, 0, 1);
  const auto t1 = drawing.tables(one), t2 = drawing.tables(two);
  StepPlan plan;
  plan.admit = {one, two};
  Drawing::prefill(plan, one, t1);
  Drawing::prefill(plan, two, t2);
  engine_.step(plan);
  for (int i = 0; i < 16; ++i) {
    if (i == 5) engine_.cancel(2);
    StepPlan step;
    step.decode = {{1, t1}};
    if (i <= 5) step.decode.push_back({2, t2});
    if (i == 5) {
      step.vae = {{2, 6}};
      step.read = {{2, 4, 6}};
    }
    const StepResult result = engine_.step(step);
    EXPECT_FALSE(result.decode[0].cancelled);
    if (i < 5) {
      EXPECT_FALSE(result.decode[1].cancelled);
    }
    if (i == 5) {
      EXPECT_TRUE(result.decode[1].cancelled);
      EXPECT_EQ(result.decode[1].emitted_tokens, 5);
      EXPECT_TRUE(result.images.empty()) << "nobody waits for a cancelled picture";
      EXPECT_TRUE(result.tokens.empty());
    }
  }
  engine_.cancel(77);  // unknown: ignored
  // Made before the cancel, run after it: it counts on tokens that were not drawn, and costs nobody its step.
  StepPlan late;
  late.vae = {{1, 16}, {2, 6}};
  late.read = {{2, 4, 6}, {1, 0, 4}};
  const StepResult result = engine_.step(late);
  ASSERT_EQ(result.images.size(), 1u);
  EXPECT_EQ(result.images[0].sequence, 1u);
  ASSERT_EQ(result.tokens.size(), 1u);
  EXPECT_EQ(result.tokens[0].sequence, 1u);
  EXPECT_EQ(drawing.finish(1), alone);
  EXPECT_EQ(drawing.finish(2).size(), 5u * 16u);
}

TEST_P(EngineTest, CancelFromAnotherThreadInTheMiddleOfAStep) {
  SequenceSpec spec = picture(1, "a cat", 11, 1000);
  Drawing drawing(engine_, 0, 1);
  const auto tables = drawing.tables(spec);
  StepPlan plan;
  plan.admit = {spec};
  Drawing::prefill(plan, spec, tables);
  engine_.step(plan);
  std::thread canceller([this] {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    engine_.cancel(1);
  });
  bool cancelled = false;
  for (int i = 0; i < 16 && !cancelled; ++i) {
    StepPlan step;
    step.decode = {{1, tables}};
    cancelled = engine_.step(step).decode[0].cancelled;
  }
  canceller.join();
  EXPECT_TRUE(cancelled);
  drawing.finish(1);
}

TEST_P(EngineTest, WrongPlansAreRefusedAndChangeNothing) {
  const SequenceSpec spec = picture(1, "a cat", 11);
  const Tokens alone = Drawing(engine_, 0, 1).solo(spec);
  Drawing drawing(engine_, 0, 1);
  const auto t = drawing.tables(spec);
  StepPlan start;
  start.admit = {spec};
  Drawing::prefill(start, spec, t);
  engine_.step(start);

  const auto refused = [&](ErrorCode code, const std::string& part, const std::function<void(StepPlan&)>& spoil) {
    StepPlan plan;
    plan.decode = {{1, t}};  // valid by itself: it must not be executed in part
    spoil(plan);
    expect_error([&] { engine_.step(plan); }, code, part);
  };
  const ErrorCode bad_plan = ErrorCode::kInvalidPlan, bad_value = ErrorCode::kInvalidArgument;
  refused(bad_plan, "not live", [](StepPlan& p) { p.release = {9}; });
  refused(bad_plan, "released twice", [](StepPlan& p) { p.release = {1, 1}; });
  refused(bad_plan, "is not live", [](StepPlan& p) { p.release = {1}; });
  refused(bad_plan, "admitted but live", [&](StepPlan& p) { p.admit = {spec}; });
  refused(bad_plan, "is not live", [&](StepPlan& p) { p.decode.push_back({2, t}); });
  refused(bad_plan, "decoded twice", [&](StepPlan& p) { p.decode.push_back({1, t}); });
  refused(bad_plan, "0 rounds", [&](StepPlan& p) { p.decode[0].rounds = 0; });
  refused(bad_plan, "17 rounds for the 16", [&](StepPlan& p) { p.decode[0].rounds = 17; });
  refused(bad_plan, "1 block tables for 2 rows", [&](StepPlan& p) { p.decode[0].block_tables.pop_back(); });
  refused(bad_plan, "does not hold", [&](StepPlan& p) { p.decode[0].block_tables[0].clear(); });
  refused(bad_plan, "block 101 outside", [&](StepPlan& p) { p.decode[0].block_tables[0][0] = 101; });
  refused(bad_plan, "block -1 outside", [&](StepPlan& p) { p.decode[0].block_tables[1][0] = -1; });
  refused(bad_plan, "prefill [3, 3)", [&](StepPlan& p) { p.prefill = {{1, 0, 3, 3, t[0]}}; });
  refused(bad_plan, "known positions", [&](StepPlan& p) { p.prefill = {{1, 0, 0, 99, t[0]}}; });
  refused(bad_plan, "has no row 2", [&](StepPlan& p) { p.prefill = {{1, 2, 0, 1, t[0]}}; });
  refused(bad_plan, "prefilled and decoded", [&](StepPlan& p) { p.prefill = {{1, 0, 0, 1, t[0]}}; });
  refused(bad_plan, "not pairs", [](StepPlan& p) { p.copies = {1}; });
  refused(bad_plan, "copied block 101", [](StepPlan& p) { p.copies = {0, 101}; });
  refused(bad_plan, "copied to twice", [](StepPlan& p) { p.copies = {0, 90, 1, 90}; });
  refused(bad_plan, "both source and destination", [](StepPlan& p) { p.copies = {0, 90, 90, 91}; });
  refused(bad_plan, "is not live", [](StepPlan& p) { p.vae = {{5, 0}}; });
  refused(bad_plan, "picture of 2 tokens, 1 are drawn", [](StepPlan& p) { p.vae = {{1, 2}}; });
  refused(bad_plan, "picture of -1 tokens", [](StepPlan& p) { p.vae = {{1, -1}}; });
  refused(bad_plan, "is not live", [](StepPlan& p) { p.read = {{5, 0, 1}}; });
  refused(bad_plan, "read of tokens [0, 2), 1 are drawn", [](StepPlan& p) { p.read = {{1, 0, 2}}; });
  refused(bad_plan, "read of tokens [1, 1)", [](StepPlan& p) { p.read = {{1, 1, 1}}; });
  refused(bad_plan, "read of tokens [-1, 1)", [](StepPlan& p) { p.read = {{1, -1, 1}}; });
  const auto refused_spec = [&](const std::string& part, const std::function<void(SequenceSpec&)>& spoil) {
    refused(bad_value, part, [&](StepPlan& p) {
      SequenceSpec other = picture(2, "a dog", 1);
      spoil(other);
      p.admit = {other};
    });
  };
  refused_spec("0 prompt rows", [](SequenceSpec& s) { s.prompt_rows.clear(); });
  refused_spec("begin-of-image", [](SequenceSpec& s) { s.prompt_rows[0].back() = 1; });
  refused_spec("token id 133", [](SequenceSpec& s) { s.prompt_rows[0][0] = 133; });
  refused_spec("grid 0x4", [](SequenceSpec& s) { s.grid_height = 0; });
  refused_spec("not below 2^53", [](SequenceSpec& s) { s.seed = uint64_t{1} << 53; });
  refused_spec("not finite", [](SequenceSpec& s) { s.guidance_scale = NAN; });
  refused_spec("recorded noise", [](SequenceSpec& s) { s.noise = {1.0f}; });
  refused_spec("image placeholders", [](SequenceSpec& s) { s.prompt_rows[0][0] = 132; });
  refused_spec("positions", [](SequenceSpec& s) { s.prompt_rows[0].insert(s.prompt_rows[0].begin(), 4096, 1); });

  drawing.decode(spec, t, 16);
  refused(bad_plan, "is complete", [](StepPlan&) {});
  EXPECT_EQ(drawing.finish(1), alone);
}

TEST_P(EngineTest, TooManyRowsInOneStep) {
  StepPlan plan;
  SequenceSpec spec = picture(1, std::string(300, 'a'), 1);
  plan.admit = {spec};
  Drawing drawing(engine_, 0, 1);
  plan.prefill = {{1, 0, 0, 300, drawing.blocks(300)}};
  expect_error([&] { engine_.step(plan); }, ErrorCode::kInvalidPlan, "limit is 256");
}

INSTANTIATE_TEST_SUITE_P(Backends, EngineTest, testing::ValuesIn(testing_support::settings()), testing_support::setting_name);

}  // namespace
}  // namespace ardiff
