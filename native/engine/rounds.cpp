// NextStepEngine: the rounds of a step (docs/speculation.md, A round). A sequence that does not speculate draws its pending token
// and feeds it; one that does drafts more tokens behind it and keeps those that pass verification.
#include <algorithm>
#include <numeric>

#include "engine/nextstep_engine.h"
#include "engine/stopwatch.h"
#include "speculation/draft_length.h"

namespace ardiff {

struct NextStepEngine::Drawing {
  const DecodeEntry* entry;
  DecodeResult* result;
  Sequence* sequence;
  int64_t rounds = 0;                 // done
  Drafts drafts = {};                 // of this round
  int32_t first_row = 0;              // of the paths, theirs
  std::vector<float> target_entropy = {};  // of the fed tokens, conditional row; empty where nobody reads it

  bool is_done() const { return rounds == entry->rounds || sequence->emitted == sequence->num_tokens(); }
  bool is_cancelled() const { return sequence->cancelled->load(std::memory_order_relaxed); }
  // Drafts that go into the backbone: the last token of a picture never does.
  int64_t fed_drafts() const { return std::min(drafts.tokens, sequence->num_tokens() - sequence->emitted - 1); }
  bool reads_entropy() const {
    return sequence->speculation &&
           (sequence->spec.speculation->trace || sequence->spec.speculation->gate.kind != speculation::GateKind::kOff);
  }
};

void NextStepEngine::run_rounds(const StepPlan& plan, StepResult& result) {
  std::vector<Drawing> drawing;
  result.decode.resize(plan.decode.size());
  for (size_t i = 0; i < plan.decode.size(); ++i) {
    const DecodeEntry& entry = plan.decode[i];
    Sequence& sequence = sequences_.at(entry.sequence);
    result.decode[i].sequence = entry.sequence;
    result.decode[i].speculating = sequence.speculation.has_value();
    // Cancelled until its rounds are done.
    result.decode[i].cancelled = true;
    drawing.push_back({&entry, &result.decode[i], &sequence});
  }
  for (bool first = true; first || !drawing.empty(); first = false) {
    const Scratch::Frame frame(scratch_);
    draw_pending(drawing, result);
    draft_tokens(drawing, result);
    const TensorView entropy = run_backbone(first ? std::span(plan.prefill) : std::span<const PrefillEntry>(), drawing, result);
    verify_drafts(drawing, entropy, result);
    for (Drawing& one : drawing) {
      ++one.rounds;
      if (one.is_done()) one.result->cancelled = false;
    }
    std::erase_if(drawing, [](const Drawing& one) { return one.is_done(); });
  }
  for (DecodeResult& decode : result.decode) decode.emitted_tokens = sequences_.at(decode.sequence).emitted;
}

void NextStepEngine::draw_pending(std::vector<Drawing>& drawing, StepResult& result) {
  const Stopwatch watch;
  std::erase_if(drawing, [](const Drawing& one) { return one.is_cancelled(); });
  if (drawing.empty()) return;
  const int64_t d = info_.token_size;
  for (const bool few_step : {false, true}) {
    const Scratch::Frame frame(scratch_);
    std::vector<TokenDraw> draws;
    std::vector<const Sequence*> sequences;
    std::vector<int64_t> tokens;
    std::vector<int32_t> hidden_rows, numbers, states;  // states: rows of the token pool, of those that go on from one
    bool any_state = false, any_work = false;
    for (const Drawing& one : drawing) {
      const Sequence& sequence = *one.sequence;
      if ((sequence.spec.few_step > 0) != few_step) continue;
      TokenDraw draw{&sequence, sequence.timesteps.get(), sequence.emitted, sequence.attempt(sequence.emitted), static_cast<int32_t>(hidden_rows.size()),
                     static_cast<int32_t>(sequence.rows.size())};
      states.push_back(sequence.token_rows[0]);  // any row, for those that do not
      if (sequence.speculation && sequence.speculation->pending_step > 0) {
        draw.first_step = sequence.speculation->pending_step;
        states.back() = sequence.pending_row[0];
        any_state = true;
      }
      if (draw.first_step < static_cast<int64_t>(sequence.timesteps->steps.size())) {
        any_work = true;
        for (size_t r = 0; r < sequence.rows.size(); ++r) {
          hidden_rows.push_back(sequence.hidden_row(r, sequence.known_positions(r) - 1));
          numbers.push_back(static_cast<int32_t>(sequence.emitted));
        }
      }
      draws.push_back(draw);
      sequences.push_back(&sequence);
      tokens.push_back(sequence.emitted);
    }
    if (draws.empty()) continue;
    const TensorView x = scratch_.take(DType::kF32, {static_cast<int64_t>(draws.size()), d});
    if (any_state) {
      const Scratch::Frame index(scratch_);  // what follows stands where it stands without it
      backend_.gather_rows(tokens_->view(), scratch_.index(states), x);
    }
    if (any_work) {
      const TokenSampler& sampler = few_step ? *few_step_ : *sampler_;
      const TensorView hidden = scratch_.take(DType::kF32, {static_cast<int64_t>(hidden_rows.size()), info_.hidden_size});
      backend_.gather_rows(hidden_->view(), scratch_.index(hidden_rows), hidden);
      result.flow_head_evaluations += sampler.sample(draws, conditions_->embed(hidden, numbers, sampler.head()), x);
    }
    store_->write(x, sequences, tokens, TokenStore::Place::kBoth);
  }
  // A flag seen from here on is too late for this token: decide once, so that state and answer agree.
  std::erase_if(drawing, [](const Drawing& one) { return one.is_cancelled(); });
  for (Drawing& one : drawing) {
    ++one.sequence->emitted;
    if (!one.sequence->speculation) continue;
    one.sequence->speculation->pending_step = 0;
    one.result->accepted.push_back(0);
  }
  result.timings.flow_head += watch.seconds();
}

// γ of each, from its own history; then the drafts.
void NextStepEngine::draft_tokens(std::vector<Drawing>& drawing, StepResult& result) {
  const Stopwatch watch;
  std::vector<DraftRequest> requests;
  std::vector<Drawing*> owners;
  int64_t rows = 0;
  for (Drawing& one : drawing) {
    one.drafts = {};
    if (!one.sequence->speculation) continue;
    const SpeculationSpec& spec = *one.sequence->spec.speculation;
    const int64_t most = std::min(spec.max_draft_tokens, one.sequence->num_tokens() - one.sequence->emitted);
    const int64_t wanted =
        spec.adaptive ? speculation::choose_draft_length(spec.costs, spec.acceptance, one.sequence->speculation->history, most) : most;
    if (wanted == 0) continue;
    one.first_row = static_cast<int32_t>(rows);
    rows += VerifyRequest::path_rows(*one.sequence, wanted);
    requests.push_back({one.sequence, &one.entry->block_tables[0], wanted, one.first_row});
    owners.push_back(&one);
  }
  if (requests.empty()) return;
  paths_->reserve(rows);
  const Scratch::Frame frame(scratch_);  // what follows finds its place wherever drafting ended
  std::vector<Drafts> drafts = drafter_->draft(requests, paths_->record());
  for (size_t i = 0; i < owners.size(); ++i) {
    // Whose flag was seen meanwhile has drafts that were not computed to their end.
    if (!owners[i]->is_cancelled()) owners[i]->drafts = std::move(drafts[i]);
  }
  result.timings.draft += watch.seconds();
}

TensorView NextStepEngine::run_backbone(std::span<const PrefillEntry> prefill, std::vector<Drawing>& drawing, StepResult& result) {
  const Stopwatch watch;
  std::vector<DecodeRows> continuing;
  std::vector<Drawing*> fed;
  int64_t decoded = 0;
  for (Drawing& one : drawing) {
    one.target_entropy.clear();
    // The token after the last is never needed, so the last one is not fed.
    if (one.sequence->emitted == one.sequence->num_tokens()) continue;
    continuing.push_back({one.entry, one.fed_drafts()});
    fed.push_back(&one);
    decoded += static_cast<int64_t>(one.sequence->rows.size()) * (one.fed_drafts() + 1);
  }
  const FlatBatch flat = flatten(prefill, continuing, sequences_);
  if (flat.size() == 0) return {};

  const bool probing = std::any_of(fed.begin(), fed.end(), [](const Drawing* one) { return one->reads_entropy(); });
  const TensorView entropy = probing ? scratch_.take(DType::kF32, {flat.size()}) : TensorView();
  const Scratch::Frame frame(scratch_);
  const int64_t m = flat.size(), text = static_cast<int64_t>(flat.text_ids.size()), h = info_.hidden_size;
  const TensorView x = scratch_.take(DType::kF32, {m, h});
  if (text > 0) backend_.embed(backbone_->weights().embed_tokens, scratch_.index(flat.text_ids), x.row_slice(0, text));
  if (m > text) {
    const TensorView tokens = scratch_.take(DType::kF32, {m - text, info_.token_size});
    backend_.gather_rows(tokens_->view(), scratch_.index(flat.token_rows), tokens);
    backend_.linear(tokens, *backbone_->weights().image_in, x.row_slice(text, m), Epilogue::store());
  }
  BackboneBatch batch;
  batch.positions = scratch_.index(flat.positions);
  batch.slots = scratch_.index(flat.slots);
  batch.context.table_rows = scratch_.index(flat.table_rows);
  batch.context.context_lengths = scratch_.index(flat.context_lengths);
  batch.context.block_tables = scratch_.index(flat.block_tables).reshape({flat.num_tables(), flat.max_blocks});
  EntropyProbe probe{{}, std::vector<TensorView>(static_cast<size_t>(info_.num_layers))};
  if (probing) {
    probe.first_keys = scratch_.index(flat.first_keys);
    probe.entropy[static_cast<size_t>(std::max<int64_t>(0, info_.num_layers - 2))] = entropy;
  }
  backbone_->forward(x, batch, kv_->layers(), scratch_, probing ? &probe : nullptr);

  const auto kept = static_cast<int64_t>(flat.kept_rows.size());
  if (kept > 0) {
    const TensorView last = scratch_.take(DType::kF32, {kept, h});
    backend_.gather_rows(x, scratch_.index(flat.kept_rows), last);
    backbone_->final_norm(last, last);
    backend_.scatter_rows(last, scratch_.index(flat.kept_hidden), hidden_->view());
  }
  if (!flat.pairs.empty()) fill_pairs(flat, x, batch.context.block_tables);

  for (const PrefillEntry& entry : prefill) {
    Sequence& sequence = sequences_.at(entry.sequence);
    GuidanceRow& row = sequence.rows[static_cast<size_t>(entry.row)];
    row.computed = entry.end;
    row.hidden_position = entry.end - 1;
    if (sequence.speculation && entry.row == 0) sequence.speculation->draft_computed = std::min(entry.end, sequence.known_positions(0) - 1);
  }
  for (const Drawing* one : fed) {
    Sequence& sequence = *one->sequence;
    for (size_t r = 0; r < sequence.rows.size(); ++r) {
      sequence.rows[r].computed = sequence.known_positions(r);
      sequence.rows[r].hidden_position = sequence.known_positions(r) - 1;
    }
  }
  result.backbone_tokens += m;
  result.timings.backbone += watch.seconds();
  if (!probing) return {};
  // Decoded rows are the last ones of the pass.
  return TensorView(entropy.data + static_cast<size_t>(m - decoded) * sizeof(float), DType::kF32, {decoded});
}

// The draft's keys and values of prefilled positions.
void NextStepEngine::fill_pairs(const FlatBatch& flat, const TensorView& x, const TensorView& block_tables) {
  std::vector<FlatPair> pairs = flat.pairs;
  std::stable_partition(pairs.begin(), pairs.end(), [](const FlatPair& pair) { return pair.text; });
  std::vector<int32_t> rows, text, tokens, positions, slots, lengths, tables;
  for (const FlatPair& pair : pairs) {
    rows.push_back(pair.x_row);
    (pair.text ? text : tokens).push_back(pair.source);
    positions.push_back(pair.position);
    slots.push_back(pair.slot);
    lengths.push_back(pair.position + 1);
    tables.push_back(pair.table_row);
  }
  const auto m = static_cast<int64_t>(pairs.size()), t = static_cast<int64_t>(text.size()), h = info_.hidden_size;
  const TensorView features = scratch_.take(DType::kF32, {m, h}), inputs = scratch_.take(DType::kF32, {m, h});
  const TensorView out = scratch_.take(DType::kF32, {m, h});
  backend_.gather_rows(x, scratch_.index(rows), features);
  backbone_->final_norm(features, features);
  if (t > 0) backend_.embed(backbone_->weights().embed_tokens, scratch_.index(text), inputs.row_slice(0, t));
  if (m > t) {
    const TensorView drawn = scratch_.take(DType::kF32, {m - t, info_.token_size});
    backend_.gather_rows(tokens_->view(), scratch_.index(tokens), drawn);
    backend_.linear(drawn, *backbone_->weights().image_in, inputs.row_slice(t, m), Epilogue::store());
  }
  const BackboneBatch batch{scratch_.index(positions), scratch_.index(slots), {block_tables, scratch_.index(tables), scratch_.index(lengths)}};
  draft_->forward(features, inputs, batch, kv_->second_layers(), out, scratch_);
}

void NextStepEngine::verify_drafts(std::vector<Drawing>& drawing, const TensorView& entropy, StepResult& result) {
  const Stopwatch watch;
  const Scratch::Frame frame(scratch_);
  std::vector<Verification::Verdict> verdicts;
  std::vector<std::vector<Drawing*>> owners;
  std::vector<Drawing*> undrafted;
  for (const bool few_step : {false, true}) {
    std::vector<VerifyRequest> requests;
    std::vector<Drawing*> drafted;
    for (Drawing& one : drawing) {
      if (!one.sequence->speculation || (one.sequence->spec.few_step > 0) != few_step) continue;
      if (one.drafts.tokens == 0) {
        undrafted.push_back(&one);
        continue;
      }
      requests.push_back({one.sequence, one.drafts.tokens, one.first_row});
      drafted.push_back(&one);
    }
    if (requests.empty()) continue;
    verdicts.push_back(verification_->judge(std::move(requests), few_step ? *few_step_ : *sampler_, result.flow_head_evaluations));
    owners.push_back(std::move(drafted));
  }
  std::vector<float> entropies(entropy ? static_cast<size_t>(entropy.shape.size()) : 0);
  std::vector<Download> downloads;
  if (!entropies.empty()) downloads.push_back({entropy, entropies.data()});
  for (Verification::Verdict& verdict : verdicts) {
    for (const Download& download : verdict.downloads()) downloads.push_back(download);
  }
  if (!downloads.empty()) backend_.download_all(downloads);

  if (!entropies.empty()) share_entropy(drawing, entropies);
  for (Drawing* one : undrafted) settle(*one, {});
  for (size_t i = 0; i < verdicts.size(); ++i) {
    const std::vector<Judgement> judgements = verdicts[i].read();
    for (size_t j = 0; j < judgements.size(); ++j) {
      show_target_tokens(*owners[i][j]->sequence, verdicts[i].requests[j], judgements[j].accepted);
      settle(*owners[i][j], judgements[j]);
    }
  }
  if (!downloads.empty()) result.timings.verify += watch.seconds();
}

void NextStepEngine::share_entropy(std::vector<Drawing>& drawing, std::span<const float> entropy) {
  auto at = entropy.begin();
  for (Drawing& one : drawing) {
    if (one.sequence->emitted == one.sequence->num_tokens()) continue;  // it was not fed
    const int64_t rows = one.fed_drafts() + 1;
    if (one.reads_entropy()) one.target_entropy.assign(at, at + rows);
    at += rows * static_cast<int64_t>(one.sequence->rows.size());
  }
}

// With a single jump the drafts that stay are context only; the picture gets what the target would have drawn in their place.
void NextStepEngine::show_target_tokens(const Sequence& sequence, const VerifyRequest& request, int64_t accepted) {
  if (sequence.spec.few_step != 1 || accepted == 0) return;
  const TensorView x = paths_->next().row_slice(request.first_row, request.first_row + accepted);
  const std::vector<const Sequence*> owners(static_cast<size_t>(accepted), &sequence);
  std::vector<int64_t> tokens(owners.size());
  std::iota(tokens.begin(), tokens.end(), sequence.emitted);
  store_->write(x, owners, tokens, TokenStore::Place::kPicture);
}

// The round's outcome into the sequence and its record. Keys, values and states beyond the accepted drafts are stale from
// here on: the next round writes over them, and no length reaches them before.
void NextStepEngine::settle(Drawing& one, const Judgement& judgement) {
  Sequence& sequence = *one.sequence;
  const SpeculationSpec& spec = *sequence.spec.speculation;
  SpeculationState& state = *sequence.speculation;
  const int64_t first = sequence.emitted, drafted = one.drafts.tokens, accepted = judgement.accepted;
  const auto mean = [](auto begin, auto end) {
    return begin == end ? std::numeric_limits<double>::quiet_NaN() : std::accumulate(begin, end, 0.0) / static_cast<double>(end - begin);
  };

  RoundRecord record;
  record.drafted = drafted;
  record.accepted = accepted;
  record.gate_stopped = one.drafts.gate_stopped;
  const auto layers = drafted == 0 ? 0 : static_cast<int64_t>(one.drafts.entropy.size()) / drafted;
  std::vector<double> draft_entropy;
  // Not what was computed for a neighbour only.
  for (int64_t j = 0; j < drafted && layers > 0 && one.reads_entropy(); ++j) draft_entropy.push_back(one.drafts.entropy[static_cast<size_t>(j * layers + spec.gate_layer)]);
  record.draft_entropy = mean(draft_entropy.begin(), draft_entropy.end());
  record.target_entropy = mean(one.target_entropy.begin(), one.target_entropy.end());
  one.result->rounds.push_back(record);
  if (spec.trace) {
    for (int64_t j = 0; j < drafted; ++j) {
      for (const double value : {static_cast<double>(first + j), static_cast<double>(j + 1), j > accepted ? 1.0 : 0.0, j < accepted ? 1.0 : 0.0,
                                 judgement.statistic[static_cast<size_t>(j)], state.target_entropy.value}) {
        one.result->trace.push_back(static_cast<float>(value));
      }
      const auto entropy = one.drafts.entropy.begin() + j * layers;
      one.result->trace.insert(one.result->trace.end(), entropy, entropy + layers);
    }
  }

  one.result->accepted.insert(one.result->accepted.end(), static_cast<size_t>(accepted), 1);
  sequence.emitted += accepted;
  for (size_t r = 0; r < sequence.rows.size(); ++r) {
    sequence.rows[r].computed = sequence.known_positions(r);
    sequence.rows[r].hidden_position = sequence.known_positions(r) - 1;
  }
  if (spec.mode == SpeculationMode::kExact) {
    for (int64_t j = accepted; j < drafted; ++j) ++state.attempts[static_cast<size_t>(first + j)];
  }
  state.pending_step = judgement.pending_step;
  if (drafted == 0 && !one.drafts.gate_stopped) {
    speculation::observe_plain(state.history, 1);
  } else {
    speculation::observe_round(state.history, drafted, accepted);
  }
  if (drafted > 0) state.last_gap = judgement.statistic[static_cast<size_t>(std::min(accepted, drafted - 1))];
  // Of the tokens that stay: the one before the drafts and the accepted ones.
  for (int64_t j = 0; j < std::min<int64_t>(accepted + 1, static_cast<int64_t>(one.target_entropy.size())); ++j) {
    speculation::observe_entropy(spec.gate, one.target_entropy[static_cast<size_t>(j)], state.target_entropy);
  }
}

}  // namespace ardiff
