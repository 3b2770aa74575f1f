// Draws TransDiff pictures through step plans, with KV blocks handed out from the pool in any order.
#pragma once

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
    for (int64_t row = 0; row < TransDiffSequence::rows_of(spec); ++row) out.push_back(blocks());
    return out;
  }
  // Passes [first, end) of every row.
  void prefill(StepPlan& plan, const SequenceSpec& spec, const std::vector<Table>& tables, int64_t first, int64_t end) const {
    const int64_t begin = first == 0 ? 0 : config().positions_of_pass(first - 1);
    for (size_t row = 0; row < tables.size(); ++row) {
      plan.prefill.push_back({spec.id, static_cast<int64_t>(row), begin, config().positions_of_pass(end - 1), tables[row]});
    }
  }
  // Adds what the sequence does next, `timesteps` of its pass at most, and moves `done` on.
  void advance(StepPlan& plan, const SequenceSpec& spec, const std::vector<Table>& tables, int64_t& done, int64_t timesteps) const {
    const int64_t n = spec.sampler.timesteps, pass = done / n;
    if (done % n == 0) prefill(plan, spec, tables, pass, pass + 1);
    const int64_t rounds = std::min(timesteps, n - done % n);
    plan.decode.push_back({spec.id, tables, rounds});
    done += rounds;
  }
  int64_t total(const SequenceSpec& spec) const { return config().num_passes * spec.sampler.timesteps; }

  // The whole picture alone: latents of all passes.
  std::vector<float> solo(const SequenceSpec& spec, int64_t timesteps) {
    const auto rows = tables(spec);
    int64_t done = 0;
    for (bool fresh = true; done < total(spec); fresh = false) {
      StepPlan plan;
      if (fresh) plan.admit = {spec};
      advance(plan, spec, rows, done, timesteps);
      engine_.step(plan);
    }
    return finish(spec.id);
  }
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
