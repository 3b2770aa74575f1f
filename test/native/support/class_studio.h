// Draws TransDiff pictures through step plans, with KV blocks handed out from the pool in any order.
#pragma once

#include <algorithm>
#include <numeric>
#include <vector>

#include "engine/transdiff_engine.h"

namespace ardiff::test {

class ClassStudio {
 public:
  using Table = std::vector<int32_t>;

  ClassStudio(TransDiffEngine& engine, int32_t first_block, int32_t stride) : engine_(engine), next_block_(first_block), stride_(stride) {}

  Table blocks() {
    Table out;
    for (int64_t i = 0; i < KvCache::blocks_for(config().positions(), config().block_tokens()); ++i) {
      out.push_back(next_block_);
      next_block_ = (next_block_ + stride_) % static_cast<int32_t>(engine_.info().kv_blocks);
    }
    return out;
  }
  std::vector<Table> tables(const SequenceSpec& spec) {
    std::vector<Table> out;
    for (int64_t row = 0; row < guidance_rows(spec); ++row) out.push_back(blocks());
    return out;
  }
  // Passes [first, end) of every row.
  void prefill(StepPlan& plan, const SequenceSpec& spec, const std::vector<Table>& tables, int64_t first, int64_t end) const {
    const int64_t begin = first == 0 ? 0 : config().positions_of_pass(first - 1);
    for (size_t row = 0; row < tables.size(); ++row) {
      plan.prefill.push_back({spec.id, static_cast<int64_t>(row), begin, config().positions_of_pass(end - 1), tables[row]});
    }
  }
  PassSteps steps(const SequenceSpec& spec) const { return pass_steps(spec, config().num_passes); }
  int64_t total(const SequenceSpec& spec) const { return steps(spec).total(); }
  // Adds what the sequence does after `done` timesteps, `timesteps` of its pass at most; returns how many.
  int64_t plan_next(StepPlan& plan, const SequenceSpec& spec, const std::vector<Table>& tables, int64_t done, int64_t timesteps) const {
    const PassSteps all = steps(spec);
    const int64_t pass = all.pass_at(done), begin = all.begin_of(pass);
    if (done == begin) prefill(plan, spec, tables, pass, pass + 1);
    const int64_t rounds = std::min({timesteps, begin + all.of(pass) - done, kMaxStepTimesteps});
    plan.decode.push_back({spec.id, tables, rounds});
    return rounds;
  }
  // Likewise, of a sequence without drafts: it will have as many more.
  void advance(StepPlan& plan, const SequenceSpec& spec, const std::vector<Table>& tables, int64_t& done, int64_t timesteps) const {
    done += plan_next(plan, spec, tables, done, timesteps);
  }

  struct Drawn {
    std::vector<float> latents;  // of all passes
    std::vector<RoundRecord> rounds;
    std::vector<uint8_t> accepted;
    std::vector<float> trace;
    int64_t kept() const {
      return std::accumulate(rounds.begin(), rounds.end(), int64_t{0}, [](int64_t sum, const RoundRecord& round) { return sum + round.accepted; });
    }
    int64_t drafted() const {
      return std::accumulate(rounds.begin(), rounds.end(), int64_t{0}, [](int64_t sum, const RoundRecord& round) { return sum + round.drafted; });
    }
    // What each judged draft was off.
    std::vector<float> statistics() const {
      std::vector<float> out;
      for (size_t at = 4; at < trace.size(); at += kTraceColumns) out.push_back(trace[at]);
      return out;
    }
  };
  // The whole picture alone.
  Drawn draw(const SequenceSpec& spec, int64_t timesteps) {
    const auto rows = tables(spec);
    Drawn out;
    int64_t done = 0;
    for (bool fresh = true; done < total(spec); fresh = false) {
      StepPlan plan;
      if (fresh) plan.admit = {spec};
      plan_next(plan, spec, rows, done, timesteps);
      const DecodeResult result = engine_.step(plan).decode.at(0);
      done = result.emitted_tokens;
      out.rounds.insert(out.rounds.end(), result.rounds.begin(), result.rounds.end());
      out.accepted.insert(out.accepted.end(), result.accepted.begin(), result.accepted.end());
      out.trace.insert(out.trace.end(), result.trace.begin(), result.trace.end());
    }
    out.latents = finish(spec.id);
    return out;
  }
  std::vector<float> solo(const SequenceSpec& spec, int64_t timesteps) { return draw(spec, timesteps).latents; }
  std::vector<float> finish(uint32_t id) {
    std::vector<float> latents = engine_.probe_latents(id).data;
    StepPlan plan;
    plan.release = {id};
    engine_.step(plan);
    return latents;
  }

 private:
  const TransDiffConfig& config() const { return engine_.config(); }

  TransDiffEngine& engine_;
  int32_t next_block_;
  int32_t stride_;
};

}  // namespace ardiff::test
