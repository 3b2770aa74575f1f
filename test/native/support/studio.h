// Draws pictures through step plans, as the scheduler does: admits, prefills, decodes some rounds a step, preempts. Hands
// out KV blocks in a scrambled order.
#pragma once

#include <algorithm>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "engine/nextstep_engine.h"

namespace ardiff::testing_support {

using Tokens = std::vector<float>;
using Table = std::vector<int32_t>;

inline std::vector<int32_t> prompt_ids(const std::string& text) {
  std::vector<int32_t> ids(text.begin(), text.end());
  for (const int32_t id : {129, 52, 42, 52, 130}) ids.push_back(id);  // <|image_area|> 4 * 4 boi
  return ids;
}

// What became of one picture: its tokens, and what all its decode results said of them.
struct Drawn {
  Tokens tokens;
  std::vector<uint8_t> accepted;
  std::vector<RoundRecord> rounds;
  std::vector<float> trace;

  int64_t drafted() const {
    int64_t sum = 0;
    for (const RoundRecord& round : rounds) sum += round.drafted;
    return sum;
  }
  int64_t kept() const { return std::count(accepted.begin(), accepted.end(), uint8_t{1}); }
};

class Studio {
 public:
  explicit Studio(NextStepEngine& engine, int32_t first_block = 0, int32_t stride = 1) : engine_(engine), next_block_(first_block), stride_(stride) {}

  struct Picture {
    SequenceSpec spec;
    std::vector<Table> tables;
    int64_t emitted = 0;
    bool cancelled = false;
    Drawn drawn;
    int64_t num_tokens() const { return spec.grid_height * spec.grid_width; }
    int64_t known(size_t row) const { return static_cast<int64_t>(spec.prompt_rows[row].size()) + emitted; }
  };

  // Admitted and prefilled in one step.
  void begin(std::span<const SequenceSpec> specs) {
    StepPlan plan;
    for (const SequenceSpec& spec : specs) add(plan, spec);
    engine_.step(plan);
  }
  void begin(const SequenceSpec& spec) { begin({&spec, 1}); }
  void add(StepPlan& plan, const SequenceSpec& spec) {
    plan.admit.push_back(spec);
    Picture& picture = pictures_[spec.id];
    picture = {};
    picture.spec = spec;
    picture.tables = tables(picture);
    for (size_t r = 0; r < picture.tables.size(); ++r) plan.prefill.push_back({spec.id, static_cast<int64_t>(r), 0, picture.known(r), picture.tables[r]});
  }
  // Decodes a picture in this plan; nothing for one that is complete or cancelled.
  void add_decode(StepPlan& plan, uint32_t id, int64_t rounds = 1) {
    const Picture& picture = pictures_.at(id);
    const int64_t lacking = picture.num_tokens() - picture.emitted;
    if (lacking > 0 && !picture.cancelled) plan.decode.push_back({id, picture.tables, std::min(rounds, lacking)});
  }
  void execute(const StepPlan& plan) {
    for (DecodeResult& result : engine_.step(plan).decode) {
      Picture& picture = pictures_.at(result.sequence);
      picture.emitted = result.emitted_tokens;
      picture.cancelled = result.cancelled;
      Drawn& drawn = picture.drawn;
      drawn.accepted.insert(drawn.accepted.end(), result.accepted.begin(), result.accepted.end());
      drawn.rounds.insert(drawn.rounds.end(), result.rounds.begin(), result.rounds.end());
      drawn.trace.insert(drawn.trace.end(), result.trace.begin(), result.trace.end());
    }
  }
  // One step of all that are unfinished.
  void decode(int64_t rounds = 1) {
    StepPlan plan;
    for (const auto& entry : pictures_) add_decode(plan, entry.first, rounds);
    execute(plan);
  }
  bool is_done(uint32_t id) const {
    const Picture& picture = pictures_.at(id);
    return picture.cancelled || picture.emitted == picture.num_tokens();
  }
  bool is_done() const {
    return std::all_of(pictures_.begin(), pictures_.end(), [this](const auto& entry) { return is_done(entry.first); });
  }
  // Its blocks are gone; everything known is computed again in other ones, in chunks.
  void preempt(uint32_t id, int64_t chunk) {
    Picture& picture = pictures_.at(id);
    picture.tables = tables(picture);
    for (size_t r = 0; r < picture.tables.size(); ++r) {
      for (int64_t begin = 0; begin < picture.known(r); begin += chunk) {
        StepPlan plan;
        plan.prefill = {{id, static_cast<int64_t>(r), begin, std::min(picture.known(r), begin + chunk), picture.tables[r]}};
        execute(plan);
      }
    }
  }
  Drawn finish(uint32_t id) {
    Drawn drawn = std::move(pictures_.at(id).drawn);
    drawn.tokens = engine_.probe_tokens(id).data;
    StepPlan plan;
    plan.release = {id};
    engine_.step(plan);
    pictures_.erase(id);
    return drawn;
  }
  Drawn draw(const SequenceSpec& spec, int64_t rounds = 1) {
    begin(spec);
    while (!is_done()) decode(rounds);
    return finish(spec.id);
  }
  const Picture& picture(uint32_t id) const { return pictures_.at(id); }

 private:
  std::vector<Table> tables(const Picture& picture) {
    std::vector<Table> out;
    for (const auto& row : picture.spec.prompt_rows) {
      Table& table = out.emplace_back();
      for (int64_t i = 0; i < KvCache::blocks_for(static_cast<int64_t>(row.size()) + picture.num_tokens()); ++i) {
        table.push_back(next_block_);
        next_block_ = (next_block_ + stride_) % static_cast<int32_t>(engine_.info().kv_blocks);
      }
    }
    return out;
  }

  NextStepEngine& engine_;
  int32_t next_block_;
  int32_t stride_;
  std::map<uint32_t, Picture> pictures_;
};

}  // namespace ardiff::testing_support
