// NextStepEngine::probe_*: single parts of the model on given inputs, as the golden cases record them.
#include <algorithm>

#include "engine/nextstep_engine.h"

namespace ardiff {

HostArray NextStepEngine::probe_head(const FlowHead& head, const HostArray& x, const HostArray& t, const std::vector<float>& r, const HostArray& condition) {
  scratch_.reset();
  const int64_t n = probe_dim(x, "x", 0, 2), d = info_.token_size, w = head.width();
  std::vector<int32_t> identity(static_cast<size_t>(n));
  for (size_t i = 0; i < identity.size(); ++i) identity[i] = static_cast<int32_t>(i);
  const TensorView rows = scratch_.index(identity);
  const TensorView tau = scratch_.take(DType::kF32, {n, w}), embedded = scratch_.take(DType::kF32, {n, w});
  const TensorView modulation = scratch_.take(DType::kF32, {n, head.modulation_size()}), v = scratch_.take(DType::kF32, {n, d});
  check(static_cast<int64_t>(t.data.size()) == n, ErrorCode::kInvalidArgument, "t has ", t.data.size(), " numbers, expected ", n);
  head.embed_times(t.data, r, tau, scratch_);
  head.embed_condition(upload_array(backend_, scratch_, condition, "condition", {n, info_.hidden_size}), embedded);
  head.modulate(tau, rows, embedded, rows, modulation, scratch_);
  head.velocity(upload_array(backend_, scratch_, x, "x", {n, d}), rows, modulation, v, scratch_);
  return download_array(backend_, v, {n, d});
}

HostArray NextStepEngine::probe_flow_head(const HostArray& x, const HostArray& t, const HostArray& condition) {
  return probe_head(sampler_->head(), x, t, {}, condition);
}

HostArray NextStepEngine::probe_few_step(const HostArray& x, const HostArray& t, const HostArray& r, const HostArray& condition) {
  check(few_step_ != nullptr, ErrorCode::kInvalidArgument, "no few-step head is loaded");
  check(r.data.size() == t.data.size(), ErrorCode::kInvalidArgument, "r has ", r.data.size(), " numbers, expected ", t.data.size());
  return probe_head(few_step_->head(), x, t, r.data, condition);
}

HostArray NextStepEngine::probe_draft_head(const HostArray& x, const HostArray& t, const HostArray& condition) {
  check(draft_head_ != nullptr, ErrorCode::kInvalidArgument, "no draft head is loaded");
  return probe_head(draft_head_->head(), x, t, {}, condition);
}

std::pair<HostArray, HostArray> NextStepEngine::probe_draft(const HostArray& features, const HostArray& inputs, int64_t parallel, int64_t first_key) {
  check(draft_ != nullptr, ErrorCode::kInvalidArgument, "no draft model is loaded");
  scratch_.reset();
  const int64_t t = probe_dim(features, "features", 0, 2), h = info_.hidden_size, m = t + parallel;
  check(t >= 1 && parallel >= 0 && m <= info_.max_positions, ErrorCode::kInvalidArgument, t, " pairs and ", parallel,
        " mask rows exceed the model's positions");
  check(first_key >= 0 && first_key < m, ErrorCode::kInvalidArgument, "first key ", first_key, " of ", m, " rows");
  const int64_t num_layers = draft_->num_layers(), num_blocks = KvCache::blocks_for(m);
  BackboneConfig layers = config_.backbone;
  layers.num_layers = 0;
  KvCache kv(backend_, layers, num_blocks, num_layers);  // its own pool: a probe never disturbs live sequences
  std::vector<int32_t> table(static_cast<size_t>(num_blocks));
  for (size_t i = 0; i < table.size(); ++i) table[i] = static_cast<int32_t>(i);
  std::vector<int32_t> positions, slots, lengths, feature_rows, first_keys;
  for (int64_t position = 0; position < m; ++position) {
    first_keys.push_back(static_cast<int32_t>(std::min(first_key, position + 1)));
    positions.push_back(static_cast<int32_t>(position));
    slots.push_back(KvCache::slot(table, position));
    lengths.push_back(static_cast<int32_t>(position + 1));
    feature_rows.push_back(static_cast<int32_t>(std::min(position, t - 1)));  // mask rows have the last true feature
  }
  const TensorView g = scratch_.take(DType::kF32, {m, h}), e = scratch_.take(DType::kF32, {m, h}), out = scratch_.take(DType::kF32, {m, h});
  backend_.gather_rows(upload_array(backend_, scratch_, features, "features", {t, h}), scratch_.index(feature_rows), g);
  backend_.convert(upload_array(backend_, scratch_, inputs, "inputs", {t, h}), e.row_slice(0, t));  // same dtype: a copy
  if (parallel > 0) backend_.gather_rows(draft_->mask_token(), scratch_.index(std::vector<int32_t>(static_cast<size_t>(parallel), 0)), e.row_slice(t, m));
  const TensorView tables = scratch_.index(table).reshape({1, num_blocks});
  const BackboneBatch batch{scratch_.index(positions), scratch_.index(slots),
                            {tables, scratch_.index(std::vector<int32_t>(static_cast<size_t>(m), 0)), scratch_.index(lengths)}};
  EntropyProbe probe{scratch_.index(first_keys), {}};
  for (int64_t layer = 0; layer < num_layers; ++layer) probe.entropy.push_back(scratch_.take(DType::kF32, {m}));
  draft_->forward(g, e, batch, kv.second_layers(), out, scratch_, &probe);
  HostArray entropy{std::vector<float>(static_cast<size_t>((m - first_key) * num_layers)), {m - first_key, num_layers}};
  for (int64_t layer = 0; layer < num_layers; ++layer) {
    const HostArray column = download_array(backend_, probe.entropy[static_cast<size_t>(layer)], {m});
    for (int64_t row = first_key; row < m; ++row) {
      entropy.data[static_cast<size_t>((row - first_key) * num_layers + layer)] = column.data[static_cast<size_t>(row)];
    }
  }
  return {download_array(backend_, out, {m, h}), std::move(entropy)};
}

HostArray NextStepEngine::probe_sampler(const HostArray& condition, const HostArray& noise, const SequenceSpec& settings) {
  scratch_.reset();
  const int64_t r = probe_dim(condition, "condition", 0, 2), draws = noise_draws(settings.sampler);
  check(r >= 1 && r <= 3, ErrorCode::kInvalidArgument, "condition has ", r, " rows, expected 1 to 3");
  check(static_cast<int64_t>(noise.data.size()) == draws * info_.token_size, ErrorCode::kInvalidArgument, "noise has ", noise.data.size(),
        " numbers, expected ", draws * info_.token_size);
  Sequence sequence;
  sequence.spec = settings;
  sequence.spec.grid_height = sequence.spec.grid_width = 1;
  sequence.spec.noise = noise.data;
  sequence.rows.resize(static_cast<size_t>(r));
  sequence.timesteps = sampler_->timesteps(settings.sampler);
  sequence.cancelled = std::make_shared<std::atomic<bool>>(false);
  const TensorView embedded = scratch_.take(DType::kF32, {r, sampler_->head().width()});
  const TensorView x = scratch_.take(DType::kF32, {1, info_.token_size});
  sampler_->head().embed_condition(upload_array(backend_, scratch_, condition, "condition", {r, info_.hidden_size}), embedded);
  const TokenDraw only{&sequence, sequence.timesteps.get(), 0, 0, 0, static_cast<int32_t>(r)};
  sampler_->sample({&only, 1}, embedded, x);
  return download_array(backend_, x, {info_.token_size});
}

std::pair<HostArray, HostArray> NextStepEngine::probe_backbone(const HostArray& ids, const HostArray& step_embedding) {
  scratch_.reset();
  const auto t = static_cast<int64_t>(ids.data.size());
  const int64_t s = probe_dim(step_embedding, "step_embedding", 0, 2), h = info_.hidden_size;
  check(t >= 1 && t + s <= info_.max_positions, ErrorCode::kInvalidArgument, t, " ids and ", s, " embeddings exceed the model's positions");
  const int64_t num_blocks = KvCache::blocks_for(t + s);
  KvCache kv(backend_, config_.backbone, num_blocks);  // its own pool: a probe never disturbs live sequences
  std::vector<int32_t> table(static_cast<size_t>(num_blocks));
  for (size_t i = 0; i < table.size(); ++i) table[i] = static_cast<int32_t>(i);
  const TensorView tables = scratch_.index(table).reshape({1, num_blocks});

  const auto run = [&](const TensorView& x, int64_t begin) {
    std::vector<int32_t> positions, slots, rows, lengths;
    for (int64_t position = begin; position < begin + x.rows(); ++position) {
      positions.push_back(static_cast<int32_t>(position));
      slots.push_back(KvCache::slot(table, position));
      rows.push_back(0);
      lengths.push_back(static_cast<int32_t>(position + 1));
    }
    const BackboneBatch batch{scratch_.index(positions), scratch_.index(slots), {tables, scratch_.index(rows), scratch_.index(lengths)}};
    backbone_->forward(x, batch, kv.layers(), scratch_);
    const TensorView out = scratch_.take(DType::kF32, {x.rows(), h});
    backbone_->final_norm(x, out);
    return download_array(backend_, out, {x.rows(), h});
  };
  std::vector<int32_t> token_ids;
  for (const float id : ids.data) {
    check(id >= 0 && id < static_cast<float>(info_.vocab_size), ErrorCode::kInvalidArgument, "token id ", id, " outside [0, ", info_.vocab_size, ")");
    token_ids.push_back(static_cast<int32_t>(id));
  }
  const TensorView x = scratch_.take(DType::kF32, {t, h});
  backend_.embed(backbone_->weights().embed_tokens, scratch_.index(token_ids), x);
  HostArray prefill = run(x, 0);
  HostArray steps{{}, {s, h}};
  for (int64_t i = 0; i < s; ++i) {
    const auto* row = step_embedding.data.data() + i * h;
    check(static_cast<int64_t>(step_embedding.data.size()) == s * h, ErrorCode::kInvalidArgument, "step_embedding is not (S, ", h, ")");
    const HostArray step = run(upload_array(backend_, scratch_, {std::vector<float>(row, row + h), {1, h}}, "step_embedding", {1, h}), t + i);
    steps.data.insert(steps.data.end(), step.data.begin(), step.data.end());
  }
  return {std::move(prefill), std::move(steps)};
}

HostArray NextStepEngine::probe_tokens(uint32_t id) {
  const auto found = sequences_.find(id);
  check(found != sequences_.end(), ErrorCode::kInvalidArgument, "sequence ", id, " is not live");
  scratch_.reset();
  const Sequence& sequence = found->second;
  if (sequence.emitted == 0) return {{}, {0, info_.token_size}};
  const TensorView rows = scratch_.take(DType::kF32, {sequence.emitted, info_.token_size});
  gather_tokens(sequence, 0, sequence.emitted, rows);
  return download_array(backend_, rows, {sequence.emitted, info_.token_size});
}

HostArrays NextStepEngine::probe(const ProbeRequest& request) {
  const auto tensor = [&](const char* name) -> const HostArray& { return request.tensor(name); };
  if (request.kind == "flow_head") return {{"out", probe_flow_head(tensor("x"), tensor("t"), tensor("condition"))}};
  if (request.kind == "few_step") return {{"out", probe_few_step(tensor("x"), tensor("t"), tensor("r"), tensor("condition"))}};
  if (request.kind == "draft") {
    auto [features, entropy] = probe_draft(tensor("features"), tensor("inputs"), request.parallel, request.first_key);
    return {{"features", std::move(features)}, {"entropy", std::move(entropy)}};
  }
  if (request.kind == "draft_head") return {{"out", probe_draft_head(tensor("x"), tensor("t"), tensor("condition"))}};
  if (request.kind == "sampler") return {{"out", probe_sampler(tensor("condition"), tensor("noise"), request.settings)}};
  if (request.kind == "backbone") {
    auto [prefill, step] = probe_backbone(tensor("ids"), tensor("step_embedding"));
    return {{"prefill", std::move(prefill)}, {"step", std::move(step)}};
  }
  if (request.kind == "vae_decode") return {{"image", probe_vae_decode(tensor("latent"))}};
  if (request.kind == "vae_encode") return {{"latent", probe_vae_encode(tensor("pixels"))}};
  if (request.kind == "tokens") return {{"tokens", probe_tokens(request.sequence)}};
  fail(ErrorCode::kInvalidArgument, "unknown probe '", request.kind, "'");
}

}  // namespace ardiff
