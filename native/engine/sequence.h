// The engine's memory of one picture being drawn. KV blocks are not part of it: they come with each plan.
#pragma once

#include <atomic>
#include <memory>
#include <optional>
#include <vector>

#include "engine/step_plan.h"
#include "speculation/draft_length.h"
#include "speculation/entropy_gate.h"
#include "engine/timestep_cache.h"

namespace ardiff {

struct GuidanceRow {
  std::vector<int32_t> prompt;  // token ids, ends with boi
  // For each prompt position the row of the token pool that replaces the text embedding, or -1.
  std::vector<int32_t> image_rows;
  int64_t computed = 0;         // positions in the KV cache after the last step that touched this row
  int64_t hidden_position = -1; // position whose hidden state is held, -1 = none
};

// What a speculating sequence remembers between rounds. It survives preemption: nothing in it can be computed again.
struct SpeculationState {
  // Steps of the next token that are done already: 0 = it starts from fresh noise, all of its sampler's = it is finished but for
  // use_norm. Its state after them is in Sequence::pending_row.
  int64_t pending_step = 0;
  std::vector<uint32_t> attempts;  // per image token, how often a draft of it was discarded by exact verification
  int64_t draft_computed = 0;      // pairs [0, draft_computed) are in the draft's KV, made of the target's features
  speculation::AcceptanceHistory history;
  speculation::EntropyAverage target_entropy;
  double last_gap = 1.0;           // statistic of the last draft that was verified
};

struct Sequence {
  SequenceSpec spec;
  std::vector<GuidanceRow> rows;
  std::shared_ptr<const TimestepTable> timesteps;        // of the head that draws its tokens
  std::shared_ptr<const TimestepTable> draft_timesteps;  // the same settings for the head that drafts them
  std::optional<SpeculationState> speculation;
  std::shared_ptr<std::atomic<bool>> cancelled;
  // Hidden pool. A speculating sequence keeps all states that tokens are drawn from (its draft catches up on them):
  // num_tokens per guidance row, the first one of the prompt's last position; others keep the last state only.
  std::vector<int32_t> hidden_rows;
  std::vector<int32_t> token_rows;   // token pool, one per image token: what the backbone sees
  // Token pool, what the picture shows, where that may differ: a kept draft stays in the context, but the target's own
  // token for the same noise is known. Empty: the picture shows token_rows.
  std::vector<int32_t> picture_rows;
  std::vector<int32_t> pending_row;  // token pool, one where it speculates: the state of SpeculationState::pending_step
  std::vector<int32_t> input_rows;   // token pool, tokens of the input picture
  int64_t emitted = 0;               // image tokens drawn

  const std::vector<int32_t>& shown_rows() const { return picture_rows.empty() ? token_rows : picture_rows; }
  int32_t hidden_row(size_t row, int64_t position) const {
    if (!speculation) return hidden_rows[row];
    return hidden_rows[row * static_cast<size_t>(num_tokens()) + static_cast<size_t>(position - prompt_length(row) + 1)];
  }
  // A state at this position is kept: the next token is drawn from it, or was.
  bool keeps_hidden(size_t row, int64_t position) const { return speculation && position + 1 >= prompt_length(row); }
  uint32_t attempt(int64_t token) const { return speculation ? speculation->attempts[static_cast<size_t>(token)] : 0; }
  int64_t num_tokens() const { return spec.grid_height * spec.grid_width; }
  int64_t prompt_length(size_t row) const { return static_cast<int64_t>(rows[row].prompt.size()); }
  // Inputs the backbone could be run over: the prompt and every drawn token.
  int64_t known_positions(size_t row) const { return prompt_length(row) + emitted; }
  bool ready_to_decode(size_t row) const {
    return rows[row].computed == known_positions(row) && rows[row].hidden_position == known_positions(row) - 1;
  }
};

}  // namespace ardiff
