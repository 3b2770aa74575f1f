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
  int32_t hidden;     // hidden pool row to keep the result in, or -1
  int32_t first_key;
  int32_t pair;       // its pair, or -1
};

struct Input {
  bool text;
  int32_t source;
};

// The known input at a position: prompt id, token of the input picture, or drawn (or drafted) token.
Input input_at(const Sequence& sequence, size_t row, int64_t position) {
  const GuidanceRow& guidance = sequence.rows[row];
  const int64_t length = sequence.prompt_length(row);
  const auto at = static_cast<size_t>(position);
  if (position >= length) return {false, sequence.token_rows[static_cast<size_t>(position - length)]};
  if (guidance.image_rows[at] >= 0) return {false, guidance.image_rows[at]};
  return {true, guidance.prompt[at]};
}

Row input_row(const Sequence& sequence, size_t row, int64_t position, int32_t table, std::span<const int32_t> blocks) {
  const auto [text, source] = input_at(sequence, row, position);
  const auto first_key = static_cast<int32_t>(sequence.prompt_length(row));
  return {text, source, position, table, KvCache::slot(blocks, position), -1, first_key, -1};
}

class Flattener {
 public:
  int32_t add_table(const std::vector<int32_t>& blocks) {
    tables_.push_back(&blocks);
    return static_cast<int32_t>(tables_.size() - 1);
  }
  void add(const Row& row) { rows_.push_back(row); }
  // `next`: the input after it.
  void add_pair(Row& row, const Input& next, int64_t first_key) {
    row.pair = static_cast<int32_t>(pairs_.size());
    pairs_.push_back({-1, next.text, next.source, static_cast<int32_t>(row.position), row.slot, row.table, static_cast<int32_t>(first_key)});
  }

  FlatBatch finish() {
    std::stable_partition(rows_.begin(), rows_.end(), [](const Row& row) { return row.text; });
    FlatBatch out;
    out.pairs = std::move(pairs_);
    for (const Row& row : rows_) {
      (row.text ? out.text_ids : out.token_rows).push_back(row.source);
      const auto at = static_cast<int32_t>(out.positions.size());
      if (row.hidden >= 0) {
        out.kept_rows.push_back(at);
        out.kept_hidden.push_back(row.hidden);
      }
      if (row.pair >= 0) out.pairs[static_cast<size_t>(row.pair)].x_row = at;
      out.positions.push_back(static_cast<int32_t>(row.position));
      out.slots.push_back(row.slot);
      out.table_rows.push_back(row.table);
      out.context_lengths.push_back(static_cast<int32_t>(row.position + 1));
      out.first_keys.push_back(std::min(row.first_key, static_cast<int32_t>(row.position + 1)));
    }
    out.block_tables = pad_tables(tables_, out.max_blocks);
    return out;
  }

 private:
  std::vector<Row> rows_;
  std::vector<FlatPair> pairs_;
  std::vector<const std::vector<int32_t>*> tables_;
};

}  // namespace

std::vector<int32_t> pad_tables(std::span<const std::vector<int32_t>* const> tables, int64_t& max_blocks) {
  max_blocks = 0;
  for (const auto* table : tables) max_blocks = std::max(max_blocks, static_cast<int64_t>(table->size()));
  max_blocks = (max_blocks + kTableStep - 1) / kTableStep * kTableStep;
  std::vector<int32_t> out(tables.size() * static_cast<size_t>(max_blocks), 0);
  for (size_t t = 0; t < tables.size(); ++t) {
    std::copy(tables[t]->begin(), tables[t]->end(), out.begin() + static_cast<std::ptrdiff_t>(t) * max_blocks);
  }
  return out;
}

FlatBatch flatten(std::span<const PrefillEntry> prefill, std::span<const DecodeRows> decode, const SequenceMap& sequences) {
  Flattener flattener;
  for (const PrefillEntry& entry : prefill) {
    const Sequence& sequence = sequences.at(entry.sequence);
    const auto r = static_cast<size_t>(entry.row);
    const int32_t table = flattener.add_table(entry.block_table);
    for (int64_t position = entry.begin; position < entry.end; ++position) {
      Row row = input_row(sequence, r, position, table, entry.block_table);
      if (sequence.speculation ? sequence.keeps_hidden(r, position) : position + 1 == entry.end) row.hidden = sequence.hidden_row(r, position);
      if (sequence.speculation && r == 0 && position + 1 < sequence.known_positions(r)) {
        flattener.add_pair(row, input_at(sequence, r, position + 1), sequence.prompt_length(r) - 1);
      }
      flattener.add(row);
    }
  }
  for (const auto& [entry, drafts] : decode) {
    const Sequence& sequence = sequences.at(entry->sequence);
    for (size_t r = 0; r < sequence.rows.size(); ++r) {
      const int32_t table = flattener.add_table(entry->block_tables[r]);
      const int64_t newest = sequence.known_positions(r) - 1;
      for (int64_t position = newest; position <= newest + drafts; ++position) {
        Row row = input_row(sequence, r, position, table, entry->block_tables[r]);
        row.hidden = sequence.hidden_row(r, position);
        flattener.add(row);
      }
    }
  }
  return flattener.finish();
}

}  // namespace ardiff
