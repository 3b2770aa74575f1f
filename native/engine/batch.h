// One backbone pass as flat arrays: which rows, where they stand, what they see. Host data, no decisions.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/plan_check.h"
#include "engine/sequence.h"
#include "engine/step_plan.h"

namespace ardiff {

// A decoded sequence in a pass: its newest token and, behind it, drafts.
struct DecodeRows {
  const DecodeEntry* entry;
  int64_t drafts = 0;  // fed; the last token of a picture never is
};

// A prefilled position of a speculating sequence's conditional row whose successor is known: a pair for the draft.
struct FlatPair {
  int32_t x_row;      // its row of the pass
  bool text;          // the input after it: token id or row of the token pool
  int32_t source;
  int32_t position;
  int32_t slot;
  int32_t table_row;
  int32_t first_key;  // first image key, for entropies
};

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

  std::vector<int32_t> first_keys;       // (M) first image position of the row's sequence, for attention entropies
  std::vector<FlatPair> pairs;

  int64_t size() const { return static_cast<int64_t>(positions.size()); }
  int64_t num_tables() const { return max_blocks == 0 ? 0 : static_cast<int64_t>(block_tables.size()) / max_blocks; }
};

// Prefill entries, then for each decoded sequence and guidance row its newest token and its drafts. `decode` names those
// decode entries whose sequence goes on. Sequences have their new token counted already, but not their drafts.
FlatBatch flatten(std::span<const PrefillEntry> prefill, std::span<const DecodeRows> decode, const SequenceMap& sequences);

// The block tables of a pass, (T, max_blocks) padded with 0. Their width goes up in steps, so that passes of growing sequences have the
// same shapes for a while (backend/stretch.h): 128 positions, which is also what a block of threads of the cuda backend takes.
constexpr int64_t kTableStep = 8;
std::vector<int32_t> pad_tables(std::span<const std::vector<int32_t>* const> tables, int64_t& max_blocks);

}  // namespace ardiff
