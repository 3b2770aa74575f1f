// The engine's memory of speculating pictures, seen through what a drafter works with: what is valid of it, to be compared,
// and all the rest, to be spoilt.
#pragma once

#include <cstring>
#include <functional>
#include <map>

#include "engine/drafter.h"
#include "support/studio.h"

namespace ardiff::testing_support {

// The model's own drafter; remembers whom it drafted for, and lets a test act in the middle of a round.
class WatchingDrafter final : public Drafter {
 public:
  explicit WatchingDrafter(const DraftParts& given) : parts(given), inner_(given) {}
  std::vector<Drafts> draft(std::span<const DraftRequest> requests, const PathRecord& paths) override {
    for (const DraftRequest& request : requests) sequences[request.sequence->spec.id] = request.sequence;
    if (before) before();
    return inner_.draft(requests, paths);
  }

  DraftParts parts;
  std::map<uint32_t, const Sequence*> sequences;  // valid while they live
  std::function<void()> before;

 private:
  ModelDrafter inner_;
};

class EngineMemory {
 public:
  using Bytes = std::vector<std::byte>;
  explicit EngineMemory(const WatchingDrafter& watched) : w_(watched), backend_(watched.parts.backend) {}

  // Keys and values of all valid positions, target's and draft's, then the kept states.
  struct Snapshot {
    std::vector<Bytes> target;  // per guidance row
    Bytes draft, hidden;
    int64_t draft_pairs = 0;
  };
  Snapshot take(const Studio::Picture& picture, int64_t draft_pairs) const {
    const Sequence& sequence = *w_.sequences.at(picture.spec.id);
    Snapshot out;
    out.draft_pairs = draft_pairs;
    for (size_t r = 0; r < sequence.rows.size(); ++r) {
      Bytes& row = out.target.emplace_back();
      for (const KvLayer& layer : w_.parts.kv.layers()) append(row, layer, picture.tables[r], sequence.known_positions(r));
    }
    for (const KvLayer& layer : w_.parts.kv.second_layers()) append(out.draft, layer, picture.tables[0], draft_pairs);
    const TensorView& pool = w_.parts.hidden.view();
    const Bytes states = download(pool);
    const size_t width = states.size() / static_cast<size_t>(pool.rows());
    for (const int32_t row : valid_hidden(sequence)) {
      const auto begin = states.begin() + static_cast<std::ptrdiff_t>(static_cast<size_t>(row) * width);
      out.hidden.insert(out.hidden.end(), begin, begin + static_cast<std::ptrdiff_t>(width));
    }
    return out;
  }

  // Everything that no length of these pictures reaches becomes NaN: in the cache, among the states, among the tokens.
  void spoil_all_but(std::span<const Studio::Picture* const> pictures) const {
    const auto all_layers = [&](std::span<const KvLayer> layers, bool draft) {
      for (const KvLayer& layer : layers) {
        for (const TensorView* tensor : {&layer.keys, &layer.values}) {
          const Bytes old = download(*tensor);
          Bytes fresh(old.size(), std::byte{0xff});  // a NaN in every float format
          for (const Studio::Picture* picture : pictures) {
            const Sequence& sequence = *w_.sequences.at(picture->spec.id);
            for (size_t r = 0; r < (draft ? 1 : sequence.rows.size()); ++r) {
              const int64_t valid = draft ? sequence.speculation->draft_computed : sequence.known_positions(r);
              for_each_vector(*tensor, picture->tables[r], valid, [&](size_t at, size_t size) { std::memcpy(fresh.data() + at, old.data() + at, size); });
            }
          }
          backend_.upload(*tensor, fresh.data());
        }
      }
    };
    all_layers(w_.parts.kv.layers(), false);
    all_layers(w_.parts.kv.second_layers(), true);
    std::vector<int32_t> hidden, tokens;
    for (const Studio::Picture* picture : pictures) {
      const Sequence& sequence = *w_.sequences.at(picture->spec.id);
      const std::vector<int32_t> rows = valid_hidden(sequence);
      hidden.insert(hidden.end(), rows.begin(), rows.end());
      for (const std::vector<int32_t>* drawn : {&sequence.token_rows, &sequence.shown_rows()}) {
        tokens.insert(tokens.end(), drawn->begin(), drawn->begin() + sequence.emitted);
      }
      if (sequence.speculation && sequence.speculation->pending_step > 0) tokens.push_back(sequence.pending_row[0]);
    }
    spoil_rows(w_.parts.hidden.view(), hidden);
    spoil_rows(w_.parts.tokens.view(), tokens);
  }

 private:
  Bytes download(const TensorView& tensor) const {
    Bytes out(static_cast<size_t>(tensor.shape.size()) * dtype_size(tensor.dtype));
    backend_.download(tensor, out.data());
    return out;
  }
  void spoil_rows(const TensorView& pool, const std::vector<int32_t>& valid) const {
    const Bytes old = download(pool);
    Bytes fresh(old.size(), std::byte{0xff});
    const size_t width = old.size() / static_cast<size_t>(pool.rows());
    for (const int32_t row : valid) std::memcpy(fresh.data() + static_cast<size_t>(row) * width, old.data() + static_cast<size_t>(row) * width, width);
    backend_.upload(pool, fresh.data());
  }
  // States that tokens are drawn from, as far as they are computed.
  static std::vector<int32_t> valid_hidden(const Sequence& sequence) {
    std::vector<int32_t> out;
    for (size_t r = 0; r < sequence.rows.size(); ++r) {
      const int64_t end = std::min(sequence.known_positions(r), sequence.prompt_length(r) + sequence.num_tokens() - 1);
      for (int64_t position = sequence.prompt_length(r) - 1; position < end; ++position) out.push_back(sequence.hidden_row(r, position));
    }
    return out;
  }
  // Byte offset and size of each head's vector of positions [0, count); tensor: (blocks, heads, 16, head_dim).
  template <typename Visit>
  static void for_each_vector(const TensorView& tensor, const Table& table, int64_t count, Visit visit) {
    const int64_t heads = tensor.shape[1], slots = tensor.shape[2];
    const size_t size = static_cast<size_t>(tensor.shape[3]) * dtype_size(tensor.dtype);
    for (int64_t position = 0; position < count; ++position) {
      for (int64_t head = 0; head < heads; ++head) {
        const int64_t row = (table[static_cast<size_t>(position / slots)] * heads + head) * slots + position % slots;
        visit(static_cast<size_t>(row) * size, size);
      }
    }
  }
  void append(Bytes& to, const KvLayer& layer, const Table& table, int64_t count) const {
    for (const TensorView* tensor : {&layer.keys, &layer.values}) {
      const Bytes all = download(*tensor);
      for_each_vector(*tensor, table, count, [&](size_t at, size_t size) {
        to.insert(to.end(), all.begin() + static_cast<std::ptrdiff_t>(at), all.begin() + static_cast<std::ptrdiff_t>(at + size));
      });
    }
  }

  const WatchingDrafter& w_;
  Backend& backend_;
};

}  // namespace ardiff::testing_support
