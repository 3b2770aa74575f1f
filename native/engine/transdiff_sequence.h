// The engine's memory of one TransDiff picture being drawn. KV blocks are not part of it: they come with each plan.
#pragma once

#include <algorithm>
#include <atomic>
#include <memory>
#include <vector>

#include "engine/step_plan.h"
#include "engine/timestep_cache.h"

namespace ardiff {

struct TransDiffSequence {
  SequenceSpec spec;
  std::shared_ptr<const TimestepTable> timesteps;
  std::shared_ptr<std::atomic<bool>> cancelled;
  // Latent pool, one row per pass: the state while the pass runs, then its latent, which later passes refer to.
  std::vector<int32_t> latent_rows;
  // Per guidance row: passes whose keys and values are in the row's blocks.
  std::vector<int64_t> computed_passes;
  int64_t done = 0;  // timesteps, over all passes

  // Guidance applies above 1 only (transdiff.md 6.3): the class, then no class.
  static int64_t rows_of(const SequenceSpec& spec) { return spec.guidance_scale > 1.0 ? 2 : 1; }
  int64_t num_rows() const { return rows_of(spec); }
  int64_t num_passes() const { return static_cast<int64_t>(latent_rows.size()); }
  int64_t timesteps_per_pass() const { return static_cast<int64_t>(timesteps->steps.size()); }
  int64_t total() const { return num_passes() * timesteps_per_pass(); }
  // The pass whose timesteps come next; the last one of a finished picture.
  int64_t pass() const { return std::min(done / timesteps_per_pass(), num_passes() - 1); }
  bool is_cancelled() const { return cancelled->load(std::memory_order_relaxed); }
};

}  // namespace ardiff
