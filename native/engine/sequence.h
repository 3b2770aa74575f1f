// The engine's memory of one picture being drawn. KV blocks are not part of it: they come with each plan.
#pragma once

#include <atomic>
#include <memory>
#include <vector>

#include "engine/step_plan.h"
#include "engine/timestep_cache.h"

namespace ardiff {

struct GuidanceRow {
  std::vector<int32_t> prompt;  // token ids, ends with boi
  // For each prompt position the row of the token pool that replaces the text embedding, or -1.
  std::vector<int32_t> image_rows;
  int64_t computed = 0;         // positions in the KV cache after the last step that touched this row
  int64_t hidden_position = -1; // position whose hidden state is held, -1 = none
};

struct Sequence {
  SequenceSpec spec;
  std::vector<GuidanceRow> rows;
  std::shared_ptr<const TimestepTable> timesteps;
  std::shared_ptr<std::atomic<bool>> cancelled;
  std::vector<int32_t> hidden_rows;  // hidden pool, one per guidance row
  std::vector<int32_t> token_rows;   // token pool, one per image token
  std::vector<int32_t> input_rows;   // token pool, tokens of the input picture
  int64_t emitted = 0;               // image tokens drawn

  int64_t num_tokens() const { return spec.grid_height * spec.grid_width; }
  int64_t prompt_length(size_t row) const { return static_cast<int64_t>(rows[row].prompt.size()); }
  // Inputs the backbone could be run over: the prompt and every drawn token.
  int64_t known_positions(size_t row) const { return prompt_length(row) + emitted; }
  bool ready_to_decode(size_t row) const {
    return rows[row].computed == known_positions(row) && rows[row].hidden_position == known_positions(row) - 1;
  }
};

}  // namespace ardiff
