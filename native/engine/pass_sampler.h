// A diffusion decoder that draws TransDiff's passes: its sampler loop (transdiff.md 6; jumps of a few-step decoder) over many
// pictures at once, each at its own pass and timestep, with its own sampler setting and guidance; and its evaluation along
// paths that another decoder has drawn.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "engine/recomputation.h"
#include "engine/transdiff_sequence.h"
#include "model/diffusion_decoder.h"

namespace ardiff {

// Timesteps [begin, end) of one pass.
struct PassDraw {
  const TransDiffSequence* sequence = nullptr;  // seed, guidance, recorded noise, cancel flag
  const TimestepTable* timesteps = nullptr;     // of this sampler's cache
  int64_t pass = 0;
  int64_t begin = 0;  // 0: its latent row receives the initial noise first, the same in every pass
  int64_t end = 0;
  std::vector<ConditionRow> conditions;  // one per guidance row
  int32_t record = -1;                   // its row of the record for timestep 0; -1: not recorded
  std::vector<Tensor> features = {};     // without caches: what the conditions' keys and values are made of, (tokens, D) f32 each
};

// What a draft's path was made of, one row per jump: (rows, N C) f32 each. Recorded draws have one guidance row.
struct PassRecord {
  TensorView states;    // x before the jump
  TensorView velocity;  // its network output
};

// A pass's timesteps at states that are given.
struct PassPoints {
  const TransDiffSequence* sequence = nullptr;
  const TimestepTable* timesteps = nullptr;
  int32_t first_state = 0;               // its row of states for timestep 0
  std::vector<ConditionRow> conditions;
};

class PassSampler {
 public:
  // caches: false computes the modulation and the conditions' keys and values anew at every timestep (Recomputation).
  PassSampler(Backend& backend, Scratch& scratch, const TransDiffConfig& config, const DiffusionDecoder& decoder, bool caches = true);
  PassSampler(const PassSampler&) = delete;
  PassSampler& operator=(const PassSampler&) = delete;

  // Throws kInvalidArgument for a spec out of range.
  std::shared_ptr<const TimestepTable> timesteps(const SamplerSpec& spec) { return times_.get(spec); }

  // latents: (rows, N C) f32, the pool; each draw's row is its sequence's of the pass. kv: the decoder's layers. Returns how many
  // timesteps each draw got: fewer where its cancel flag was seen. Adds the network evaluations (timestep x guidance row) to `evaluations`.
  std::vector<int64_t> sample(std::span<const PassDraw> draws, const TensorView& latents, std::span<const KvLayer> kv, int64_t& evaluations,
                              const PassRecord* record = nullptr) const;

  // states, velocity: (states, N C) f32; velocity receives the guided v at each. Adds the network evaluations.
  void evaluate(std::span<const PassPoints> paths, const TensorView& states, std::span<const KvLayer> kv, const TensorView& velocity,
                int64_t& evaluations) const;

 private:
  struct Batch;
  void start(std::span<const PassDraw> draws, const TensorView& latents) const;
  void advance(std::span<const PassDraw* const> active, const Batch& batch, int64_t step, const TensorView& latents, std::span<const KvLayer> kv,
               const PassRecord* record) const;
  void draw_noise(std::span<const PassDraw* const> draws, std::span<const int64_t> timesteps, bool initial, const TensorView& noise) const;

  Backend& backend_;
  Scratch& scratch_;
  const DiffusionDecoder& decoder_;
  int64_t latent_size_;
  std::unique_ptr<Recomputation> recomputation_;  // null with caches
  TimestepCache times_;  // a row is what the decoder's blocks are modulated by at one timestep
};

}  // namespace ardiff
