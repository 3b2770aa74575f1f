// One backbone pass as flat arrays: which rows, where they stand, what they see. Host data, no decisions.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/plan_check.h"
#include "engine/sequence.h"
#include "engine/step_plan.h"

namespace ardiff {

// Rows are ordered [text rows | image rows]: each kind has its own way to an input embedding.
struct FlatBatch {
  std::vector<int32_t> text_ids;         // (Mt) ids for the embedding table
  std::vector<int32_t> token_rows;       // (Mi) rows of the token pool for image_in_projector
  std::vector<int32_t> positions;        // (M)
  std::vector<int32_t> slots;            // (M)
  std::vector<int32_t> table_rows;       // (M)
  std::vector<int32_t> context_lengths;  // (M)
  std::vector<int32_t> block_tables;     // (T, max_blocks) padded with 0
  int64_t max_blocks = 0;

  // Rows whose hidden state is kept, and where: x row -> hidden pool row.
  std::vector<int32_t> kept_rows;
  std::vector<int32_t> kept_hidden;

  int64_t size() const { return static_cast<int64_t>(positions.size()); }
  int64_t num_tables() const { return max_blocks == 0 ? 0 : static_cast<int64_t>(block_tables.size()) / max_blocks; }
};

// Prefill entries, then one row per guidance row of each decoded sequence (at its newest token). `decode` names
// those decode entries whose sequence goes on. Sequences have their new token counted already.
FlatBatch flatten(std::span<const PrefillEntry> prefill, std::span<const DecodeEntry* const> decode, const SequenceMap& sequences);

}  // namespace ardiff
