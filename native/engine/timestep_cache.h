// What a network makes of the time alone, per sampler setting: time embeddings of a flow head, modulations of a diffusion
// decoder. Sequences with the same setting share them; unused ones are dropped when the cache is full (the settings come
// from requests).
#pragma once

#include <functional>
#include <list>
#include <memory>
#include <span>

#include "backend/scratch.h"
#include "engine/row_pool.h"
#include "model/noise_schedule.h"

namespace ardiff {

struct TimestepTable {
  SamplerSpec spec;
  std::vector<SamplerStep> steps;
  std::vector<int32_t> tau_rows;  // rows of TimestepCache::tau(), one per step
};

class TimestepCache {
 public:
  // embed fills tau (steps, columns) f32, one row per step.
  using Embed = std::function<void(std::span<const SamplerStep> steps, const TensorView& tau)>;
  TimestepCache(Backend& backend, Scratch& scratch, int64_t columns, size_t keep_unused, Embed embed)
      : backend_(backend), scratch_(scratch), keep_unused_(keep_unused), embed_(std::move(embed)), tau_(backend, columns) {}

  // Throws kInvalidArgument for a spec out of range.
  std::shared_ptr<const TimestepTable> get(const SamplerSpec& spec);
  const TensorView& tau() const { return tau_.view(); }  // (rows, columns) f32

 private:
  void drop_unused();

  Backend& backend_;
  Scratch& scratch_;
  size_t keep_unused_;
  Embed embed_;
  RowPool tau_;
  std::list<std::shared_ptr<const TimestepTable>> tables_;  // most recently used first
};

}  // namespace ardiff
