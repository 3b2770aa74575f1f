#include "engine/drafter.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "engine/batch.h"

namespace ardiff {

namespace {

constexpr float kTokenNormEps = 1e-6f;

}  // namespace

void TokenStore::write(const TensorView& x, std::span<const Sequence* const> sequences, std::span<const int64_t> tokens, Place place) const {
  std::vector<int32_t> from[2], to[2];  // plain, normalised
  for (size_t i = 0; i < sequences.size(); ++i) {
    const Sequence& sequence = *sequences[i];
    const auto kind = static_cast<size_t>(sequence.spec.use_norm), token = static_cast<size_t>(tokens[i]);
    const auto add = [&](const std::vector<int32_t>& rows) {
      from[kind].push_back(static_cast<int32_t>(i));
      to[kind].push_back(rows[token]);
    };
    if (place != Place::kPicture) add(sequence.token_rows);
    if (place != Place::kContext && !sequence.picture_rows.empty()) add(sequence.picture_rows);
  }
  const Scratch::Frame frame(scratch_);
  for (size_t kind = 0; kind < 2; ++kind) {
    if (from[kind].empty()) continue;
    const TensorView rows = scratch_.take(DType::kF32, {static_cast<int64_t>(from[kind].size()), x.cols()});
    backend_.gather_rows(x, scratch_.index(from[kind]), rows);
    if (kind == 1) backend_.layer_norm(rows, {}, {}, kTokenNormEps, rows);
    backend_.scatter_rows(rows, scratch_.index(to[kind]), pool_.view());
  }
}

// One row of the draft's pass.
struct ModelDrafter::Pair {
  int32_t request;
  int64_t position;
  int32_t feature;  // row of the hidden pool, or of the last prediction
  int32_t token;    // row of the token pool; -1: the mask token
};

// Predicted features of all pairs, (M, H) f32, and entropies (M, draft layers) in host memory.
struct ModelDrafter::Prediction {
  TensorView features;
  std::vector<float> entropy;
};

// Pairs with a token come before those with the mask token. `earlier`: where features are taken from.
ModelDrafter::Prediction ModelDrafter::predict(const std::vector<Pair>& pairs, std::span<const DraftRequest> requests,
                                               const TensorView& earlier) const {
  const auto m = static_cast<int64_t>(pairs.size()), h = earlier.cols(), layers = p_.model.num_layers();
  Prediction out{p_.scratch.take(DType::kF32, {m, h}), std::vector<float>(static_cast<size_t>(m * layers), std::numeric_limits<float>::quiet_NaN())};
  const Scratch::Frame frame(p_.scratch);
  std::vector<int32_t> features, tokens, positions, slots, lengths, table_rows, first_keys;
  std::vector<const std::vector<int32_t>*> tables;
  for (const DraftRequest& request : requests) tables.push_back(request.block_table);
  for (const Pair& pair : pairs) {
    const Sequence& sequence = *requests[static_cast<size_t>(pair.request)].sequence;
    features.push_back(pair.feature);
    if (pair.token >= 0) tokens.push_back(pair.token);
    positions.push_back(static_cast<int32_t>(pair.position));
    slots.push_back(KvCache::slot(*requests[static_cast<size_t>(pair.request)].block_table, pair.position));
    lengths.push_back(static_cast<int32_t>(pair.position + 1));
    table_rows.push_back(pair.request);
    first_keys.push_back(static_cast<int32_t>(sequence.prompt_length(0) - 1));
  }
  Scratch& scratch = p_.scratch;
  const TensorView g = p_.scratch.take(DType::kF32, {m, h}), e = p_.scratch.take(DType::kF32, {m, h});
  const auto known = static_cast<int64_t>(tokens.size());
  p_.backend.gather_rows(earlier, scratch.index(features), g);
  if (known > 0) {
    const TensorView inputs = p_.scratch.take(DType::kF32, {known, p_.tokens.view().cols()});
    p_.backend.gather_rows(p_.tokens.view(), scratch.index(tokens), inputs);
    p_.backend.linear(inputs, p_.image_in, e.row_slice(0, known), Epilogue::store());
  }
  if (known < m) p_.backend.gather_rows(p_.model.mask_token(), scratch.index(std::vector<int32_t>(static_cast<size_t>(m - known), 0)), e.row_slice(known, m));

  BackboneBatch batch;
  int64_t max_blocks = 0;
  const std::vector<int32_t> padded = pad_tables(tables, max_blocks);
  batch.positions = scratch.index(positions);
  batch.slots = scratch.index(slots);
  batch.context.table_rows = scratch.index(table_rows);
  batch.context.context_lengths = scratch.index(lengths);
  batch.context.block_tables = scratch.index(padded).reshape({static_cast<int64_t>(tables.size()), max_blocks});

  EntropyProbe probe{{}, std::vector<TensorView>(static_cast<size_t>(layers))};
  bool probing = false;
  for (const DraftRequest& request : requests) {
    const SpeculationSpec& spec = *request.sequence->spec.speculation;
    for (int64_t layer = 0; layer < layers; ++layer) {
      if (!spec.trace && (spec.gate.kind == speculation::GateKind::kOff || spec.gate_layer != layer)) continue;
      TensorView& entropy = probe.entropy[static_cast<size_t>(layer)];
      if (!entropy) entropy = p_.scratch.take(DType::kF32, {m});
      probing = true;
    }
  }
  if (probing) probe.first_keys = scratch.index(first_keys);
  p_.model.forward(g, e, batch, p_.kv.second_layers(), out.features, p_.scratch, probing ? &probe : nullptr);
  std::vector<float> column(static_cast<size_t>(m));
  for (int64_t layer = 0; layer < layers; ++layer) {
    if (!probe.entropy[static_cast<size_t>(layer)]) continue;
    p_.backend.download(probe.entropy[static_cast<size_t>(layer)], column.data());
    for (int64_t i = 0; i < m; ++i) out.entropy[static_cast<size_t>(i * layers + layer)] = column[static_cast<size_t>(i)];
  }
  return out;
}

bool ModelDrafter::stops(const DraftRequest& request, const Drafts& drafts, const float* entropy) const {
  const Sequence& sequence = *request.sequence;
  const SpeculationSpec& spec = *sequence.spec.speculation;
  if (spec.gate.kind == speculation::GateKind::kOff) return false;
  const speculation::GateInput input{entropy[spec.gate_layer], drafts.tokens + 1, sequence.emitted + drafts.tokens, sequence.num_tokens(),
                                     sequence.speculation->last_gap};
  return speculation::gate_stops(spec.gate, sequence.speculation->target_entropy, input);
}

// counts[i] tokens of requests[i], from predicted rows rows[i]; behind those it has already.
void ModelDrafter::sample(std::span<const DraftRequest> requests, std::span<const int64_t> counts, const std::vector<std::vector<int32_t>>& rows,
                          const Prediction& prediction, std::span<const Drafts> earlier, const PathRecord& paths) const {
  const int64_t d = p_.tokens.view().cols();
  for (const bool few_step : {false, true}) {
    const Scratch::Frame frame(p_.scratch);
    std::vector<TokenDraw> draws;
    std::vector<const Sequence*> sequences;
    std::vector<int64_t> tokens;
    std::vector<int32_t> predicted, numbers;
    for (size_t i = 0; i < requests.size(); ++i) {
      const Sequence& sequence = *requests[i].sequence;
      if ((sequence.spec.few_step > 0) != few_step) continue;
      for (int64_t j = 0; j < counts[i]; ++j) {
        const int64_t draft = earlier[i].tokens + j, token = sequence.emitted + draft;
        const auto steps = static_cast<int64_t>(sequence.draft_timesteps->steps.size());
        draws.push_back({&sequence, sequence.draft_timesteps.get(), token, sequence.attempt(token), static_cast<int32_t>(draws.size()), 1, 0,
                         requests[i].first_row + static_cast<int32_t>(draft * steps)});
        sequences.push_back(&sequence);
        tokens.push_back(token);
        predicted.push_back(rows[i][static_cast<size_t>(j)]);
        numbers.push_back(static_cast<int32_t>(token));
      }
    }
    if (draws.empty()) continue;
    const TokenSampler& sampler = few_step ? *p_.few_step : *p_.draft_head;
    const TensorView hidden = p_.scratch.take(DType::kF32, {static_cast<int64_t>(draws.size()), prediction.features.cols()});
    p_.backend.gather_rows(prediction.features, p_.scratch.index(predicted), hidden);
    const TensorView condition = p_.conditions.embed(hidden, numbers, sampler.head());
    const TensorView x = p_.scratch.take(DType::kF32, {static_cast<int64_t>(draws.size()), d});
    PathRecord record = paths;
    if (few_step) record.noise = {};  // it draws none
    sampler.sample(draws, condition, x, &record);
    p_.store.write(x, sequences, tokens, TokenStore::Place::kContext);
  }
}

// Catch-up first: pairs of tokens emitted since the last round, on the target's features. The last of them predicts the
// condition of the first draft. Sequential drafts go on from there one by one, parallel ones were predicted beside it.
std::vector<Drafts> ModelDrafter::draft(std::span<const DraftRequest> requests, const PathRecord& paths) {
  const int64_t layers = p_.model.num_layers();
  std::vector<Drafts> out(requests.size());
  std::vector<std::vector<int32_t>> rows(requests.size());  // predicted rows, one per draft they allow
  std::vector<Pair> pairs, masked;
  for (size_t i = 0; i < requests.size(); ++i) {
    Sequence& sequence = *requests[i].sequence;
    const int64_t last = sequence.known_positions(0) - 2;  // the newest token is the input after it
    for (int64_t position = sequence.speculation->draft_computed; position <= last; ++position) {
      const int64_t token = position + 1 - sequence.prompt_length(0);
      pairs.push_back({static_cast<int32_t>(i), position, sequence.hidden_row(0, position), sequence.token_rows[static_cast<size_t>(token)]});
    }
    sequence.speculation->draft_computed = last + 1;
    rows[i].push_back(static_cast<int32_t>(pairs.size()) - 1);
    if (sequence.spec.speculation->drafting == Drafting::kSequential) continue;
    for (int64_t j = 1; j < requests[i].max_tokens; ++j) {
      rows[i].push_back(static_cast<int32_t>(masked.size()));  // behind all pairs, moved below
      masked.push_back({static_cast<int32_t>(i), last + j, sequence.hidden_row(0, last), -1});
    }
  }
  for (auto& own : rows) {
    for (size_t j = 1; j < own.size(); ++j) own[j] += static_cast<int32_t>(pairs.size());
  }
  pairs.insert(pairs.end(), masked.begin(), masked.end());

  Prediction prediction = predict(pairs, requests, p_.hidden.view());
  std::vector<bool> ended(requests.size(), false);
  for (;;) {
    std::vector<int64_t> counts(requests.size(), 0);
    bool any = false;
    for (size_t i = 0; i < requests.size(); ++i) {
      if (ended[i]) continue;
      // As far as the predictions reach and the gate lets it.
      const int64_t before = out[i].tokens;
      for (const int32_t row : rows[i]) {
        if (before + counts[i] == requests[i].max_tokens) break;
        const float* entropy = prediction.entropy.data() + row * layers;
        Drafts so_far;
        so_far.tokens = before + counts[i];
        if (stops(requests[i], so_far, entropy)) {
          out[i].gate_stopped = ended[i] = true;
          break;
        }
        out[i].entropy.insert(out[i].entropy.end(), entropy, entropy + layers);
        ++counts[i];
      }
      any = any || counts[i] > 0;
    }
    if (!any) break;
    sample(requests, counts, rows, prediction, out, paths);
    std::vector<Pair> next;
    for (size_t i = 0; i < requests.size(); ++i) {
      out[i].tokens += counts[i];
      const Sequence& sequence = *requests[i].sequence;
      const bool parallel = sequence.spec.speculation->drafting == Drafting::kParallel;
      if (ended[i] || parallel || counts[i] == 0 || out[i].tokens == requests[i].max_tokens) {
        ended[i] = true;
        continue;
      }
      const int64_t token = sequence.emitted + out[i].tokens - 1;
      next.push_back({static_cast<int32_t>(i), sequence.known_positions(0) - 2 + out[i].tokens, rows[i].back(),
                      sequence.token_rows[static_cast<size_t>(token)]});
      rows[i] = {static_cast<int32_t>(next.size()) - 1};
    }
    if (next.empty()) break;
    prediction = predict(next, requests, prediction.features);
  }
  return out;
}

}  // namespace ardiff
