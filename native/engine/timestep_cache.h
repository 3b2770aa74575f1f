// Time embeddings of the flow head per sampler setting. They depend on the setting alone, so sequences with the
// same setting share them; unused ones are dropped when the cache is full (the settings come from requests).
#pragma once

#include <list>
#include <memory>

#include "engine/row_pool.h"
#include "model/flow_head.h"
#include "model/noise_schedule.h"

namespace ardiff {

struct TimestepTable {
  SamplerSpec spec;
  std::vector<SamplerStep> steps;
  std::vector<int32_t> tau_rows;  // rows of TimestepCache::tau(), one per step
};

class TimestepCache {
 public:
  TimestepCache(Backend& backend, const FlowHead& head, Scratch& scratch)
      : backend_(backend), head_(head), scratch_(scratch), tau_(backend, head.width()) {}

  // Throws kInvalidArgument for a spec out of range.
  std::shared_ptr<const TimestepTable> get(const SamplerSpec& spec);
  const TensorView& tau() const { return tau_.view(); }  // (rows, W) f32

 private:
  static constexpr size_t kKeepUnused = 32;
  void drop_unused();

  Backend& backend_;
  const FlowHead& head_;
  Scratch& scratch_;
  RowPool tau_;
  std::list<std::shared_ptr<const TimestepTable>> tables_;  // most recently used first
};

}  // namespace ardiff
