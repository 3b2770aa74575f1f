#include "engine/batch.h"

#include <algorithm>

#include "engine/kv_cache.h"

namespace ardiff {

namespace {

struct Row {
  bool text;
  int32_t source;  // token id, or row of the token pool
  int64_t position;
  int32_t table;
  int32_t slot;
  int32_t hidden;  // hidden pool row to keep the result in, or -1
};

// The known input at a position: prompt id, token of the input picture, or drawn token.
Row input_row(const Sequence& sequence, size_t row, int64_t position, int32_t table, std::span<const int32_t> blocks) {
  const GuidanceRow& guidance = sequence.rows[row];
  const int64_t length = sequence.prompt_length(row);
  const auto at = static_cast<size_t>(position);
  const int32_t slot = KvCache::slot(blocks, position);
  if (position >= length) return {false, sequence.token_rows[static_cast<size_t>(position - length)], position, table, slot, -1};
  if (guidance.image_rows[at] >= 0) return {false, guidance.image_rows[at], position, table, slot, -1};
  return {true, guidance.prompt[at], position, table, slot, -1};
}

class Flattener {
 public:
  int32_t add_table(const std::vector<int32_t>& blocks) {
    tables_.push_back(&blocks);
    return static_cast<int32_t>(tables_.size() - 1);
  }
  void add(const Row& row) { rows_.push_back(row); }

  FlatBatch finish() {
    std::stable_partition(rows_.begin(), rows_.end(), [](const Row& row) { return row.text; });
    FlatBatch out;
    for (const Row& row : rows_) {
      (row.text ? out.text_ids : out.token_rows).push_back(row.source);
      if (row.hidden >= 0) {
        out.kept_rows.push_back(static_cast<int32_t>(out.positions.size()));
        out.kept_hidden.push_back(row.hidden);
      }
      out.positions.push_back(static_cast<int32_t>(row.position));
      out.slots.push_back(row.slot);
      out.table_rows.push_back(row.table);
      out.context_lengths.push_back(static_cast<int32_t>(row.position + 1));
    }
    for (const auto* table : tables_) out.max_blocks = std::max(out.max_blocks, static_cast<int64_t>(table->size()));
    out.block_tables.assign(tables_.size() * static_cast<size_t>(out.max_blocks), 0);
    for (size_t t = 0; t < tables_.size(); ++t) {
      std::copy(tables_[t]->begin(), tables_[t]->end(), out.block_tables.begin() + static_cast<std::ptrdiff_t>(t) * out.max_blocks);
    }
    return out;
  }

 private:
  std::vector<Row> rows_;
  std::vector<const std::vector<int32_t>*> tables_;
};

}  // namespace

FlatBatch flatten(std::span<const PrefillEntry> prefill, std::span<const DecodeEntry* const> decode, const SequenceMap& sequences) {
  Flattener flattener;
  for (const PrefillEntry& entry : prefill) {
    const Sequence& sequence = sequences.at(entry.sequence);
    const auto r = static_cast<size_t>(entry.row);
    const int32_t table = flattener.add_table(entry.block_table);
    for (int64_t position = entry.begin; position < entry.end; ++position) {
      Row row = input_row(sequence, r, position, table, entry.block_table);
      if (position + 1 == entry.end) row.hidden = sequence.hidden_rows[r];
      flattener.add(row);
    }
  }
  for (const DecodeEntry* entry : decode) {
    const Sequence& sequence = sequences.at(entry->sequence);
    for (size_t r = 0; r < sequence.rows.size(); ++r) {
      const int32_t table = flattener.add_table(entry->block_tables[r]);
      Row row = input_row(sequence, r, sequence.known_positions(r) - 1, table, entry->block_tables[r]);
      row.hidden = sequence.hidden_rows[r];
      flattener.add(row);
    }
  }
  return flattener.finish();
}

}  // namespace ardiff
