// What a timestep of TransDiff takes from caches, computed anew at every one as the model's reference does (transdiff.md 2): the
// modulation by the time, and the keys and values of the condition. The numbers are the same: it says what the caches are worth.
#pragma once

#include <span>
#include <vector>

#include "model/diffusion_decoder.h"

namespace ardiff {

class Recomputation {
 public:
  Recomputation(Backend& backend, Scratch& scratch, const TransDiffConfig& config, const DiffusionDecoder& decoder)
      : backend_(backend), scratch_(scratch), decoder_(decoder), block_tokens_(config.block_tokens()), width_(config.width) {}

  // What stays the same over many timesteps of the same rows, in the scratch.
  struct Batch {
    TensorView condition;  // (condition tokens of all rows, D) f32
    TensorView slots;      // where their keys and values go
  };
  // features: (tokens, D) f32 of each row.
  Batch prepare(std::span<const ConditionRow> rows, std::span<const TensorView> features) const;

  // Writes the keys and values into kv, one layer per block of the decoder. taus: τ of each row. Returns the modulation, a row
  // for each of them, in the scratch; `times` receives the rows' numbers in it.
  TensorView run(const Batch& batch, std::span<const float> taus, std::span<const KvLayer> kv, std::vector<int32_t>& times) const;

 private:
  Backend& backend_;
  Scratch& scratch_;
  const DiffusionDecoder& decoder_;
  int64_t block_tokens_;
  int64_t width_;
};

}  // namespace ardiff
