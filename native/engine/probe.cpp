// Engine::probe_*: single parts of the model on given inputs, as the golden cases record them.
#include <algorithm>

#include "engine/engine.h"

namespace ardiff {

namespace {

int64_t dim(const HostArray& array, const char* name, size_t i, size_t rank) {
  check(array.shape.size() == rank, ErrorCode::kInvalidArgument, name, " has rank ", array.shape.size(), ", expected ", rank);
  return array.shape[i];
}

// (B, C, H, W) <-> (B, H, W, C): golden cases are channels first, the engine channels last.
std::vector<float> reorder(const std::vector<float>& in, int64_t b, int64_t c, int64_t pixels, bool to_channels_last) {
  std::vector<float> out(in.size());
  for (int64_t n = 0; n < b; ++n) {
    for (int64_t i = 0; i < c; ++i) {
      for (int64_t p = 0; p < pixels; ++p) {
        const auto first = static_cast<size_t>((n * c + i) * pixels + p), last = static_cast<size_t>((n * pixels + p) * c + i);
        if (to_channels_last) {
          out[last] = in[first];
        } else {
          out[first] = in[last];
        }
      }
    }
  }
  return out;
}

}  // namespace

TensorView Engine::upload_array(const HostArray& array, const char* name, const Shape& shape) {
  check(static_cast<int64_t>(array.data.size()) == shape.size(), ErrorCode::kInvalidArgument, name, " has ", array.data.size(),
        " numbers, expected shape ", shape.text());
  const TensorView view = scratch_.take(DType::kF32, shape);
  backend_.upload(view, array.data.data());
  return view;
}

HostArray Engine::download_array(const TensorView& view, std::vector<int64_t> shape) {
  HostArray out{std::vector<float>(static_cast<size_t>(view.shape.size())), std::move(shape)};
  backend_.download(view, out.data.data());
  return out;
}

HostArray Engine::probe_head(const FlowHead& head, const HostArray& x, const HostArray& t, const std::vector<float>& r, const HostArray& condition) {
  scratch_.reset();
  const int64_t n = dim(x, "x", 0, 2), d = info_.token_size, w = head.width();
  std::vector<int32_t> identity(static_cast<size_t>(n));
  for (size_t i = 0; i < identity.size(); ++i) identity[i] = static_cast<int32_t>(i);
  const TensorView rows = scratch_.index(identity);
  const TensorView tau = scratch_.take(DType::kF32, {n, w}), embedded = scratch_.take(DType::kF32, {n, w});
  const TensorView modulation = scratch_.take(DType::kF32, {n, head.modulation_size()}), v = scratch_.take(DType::kF32, {n, d});
  check(static_cast<int64_t>(t.data.size()) == n, ErrorCode::kInvalidArgument, "t has ", t.data.size(), " numbers, expected ", n);
  head.embed_times(t.data, r, tau, scratch_);
  head.embed_condition(upload_array(condition, "condition", {n, info_.hidden_size}), embedded);
  head.modulate(tau, rows, embedded, rows, modulation, scratch_);
  head.velocity(upload_array(x, "x", {n, d}), rows, modulation, v, scratch_);
  return download_array(v, {n, d});
}

HostArray Engine::probe_flow_head(const HostArray& x, const HostArray& t, const HostArray& condition) {
  return probe_head(sampler_->head(), x, t, {}, condition);
}

HostArray Engine::probe_few_step(const HostArray& x, const HostArray& t, const HostArray& r, const HostArray& condition) {
  check(few_step_ != nullptr, ErrorCode::kInvalidArgument, "no few-step head is loaded");
  check(r.data.size() == t.data.size(), ErrorCode::kInvalidArgument, "r has ", r.data.size(), " numbers, expected ", t.data.size());
  return probe_head(few_step_->head(), x, t, r.data, condition);
}

HostArray Engine::probe_draft_head(const HostArray& x, const HostArray& t, const HostArray& condition) {
  check(draft_head_ != nullptr, ErrorCode::kInvalidArgument, "no draft head is loaded");
  return probe_head(draft_head_->head(), x, t, {}, condition);
}

std::pair<HostArray, HostArray> Engine::probe_draft(const HostArray& features, const HostArray& inputs, int64_t parallel, int64_t first_key) {
  check(draft_ != nullptr, ErrorCode::kInvalidArgument, "no draft model is loaded");
  scratch_.reset();
  const int64_t t = dim(features, "features", 0, 2), h = info_.hidden_size, m = t + parallel;
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
  backend_.gather_rows(upload_array(features, "features", {t, h}), scratch_.index(feature_rows), g);
  backend_.convert(upload_array(inputs, "inputs", {t, h}), e.row_slice(0, t));  // same dtype: a copy
  if (parallel > 0) backend_.gather_rows(draft_->mask_token(), scratch_.index(std::vector<int32_t>(static_cast<size_t>(parallel), 0)), e.row_slice(t, m));
  const TensorView tables = scratch_.index(table).reshape({1, num_blocks});
  const BackboneBatch batch{scratch_.index(positions), scratch_.index(slots),
                            {tables, scratch_.index(std::vector<int32_t>(static_cast<size_t>(m), 0)), scratch_.index(lengths)}};
  EntropyProbe probe{scratch_.index(first_keys), {}};
  for (int64_t layer = 0; layer < num_layers; ++layer) probe.entropy.push_back(scratch_.take(DType::kF32, {m}));
  draft_->forward(g, e, batch, kv.draft_layers(), out, scratch_, &probe);
  HostArray entropy{std::vector<float>(static_cast<size_t>((m - first_key) * num_layers)), {m - first_key, num_layers}};
  for (int64_t layer = 0; layer < num_layers; ++layer) {
    const HostArray column = download_array(probe.entropy[static_cast<size_t>(layer)], {m});
    for (int64_t row = first_key; row < m; ++row) {
      entropy.data[static_cast<size_t>((row - first_key) * num_layers + layer)] = column.data[static_cast<size_t>(row)];
    }
  }
  return {download_array(out, {m, h}), std::move(entropy)};
}

HostArray Engine::probe_sampler(const HostArray& condition, const HostArray& noise, const SequenceSpec& settings) {
  scratch_.reset();
  const int64_t r = dim(condition, "condition", 0, 2), draws = noise_draws(settings.sampler);
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
  sampler_->head().embed_condition(upload_array(condition, "condition", {r, info_.hidden_size}), embedded);
  const TokenDraw only{&sequence, sequence.timesteps.get(), 0, 0, 0, static_cast<int32_t>(r)};
  sampler_->sample({&only, 1}, embedded, x);
  return download_array(x, {info_.token_size});
}

std::pair<HostArray, HostArray> Engine::probe_backbone(const HostArray& ids, const HostArray& step_embedding) {
  scratch_.reset();
  const auto t = static_cast<int64_t>(ids.data.size());
  const int64_t s = dim(step_embedding, "step_embedding", 0, 2), h = info_.hidden_size;
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
    return download_array(out, {x.rows(), h});
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
    const HostArray step = run(upload_array({std::vector<float>(row, row + h), {1, h}}, "step_embedding", {1, h}), t + i);
    steps.data.insert(steps.data.end(), step.data.begin(), step.data.end());
  }
  return {std::move(prefill), std::move(steps)};
}

HostArray Engine::probe_vae_decode(const HostArray& latent) {
  const int64_t b = dim(latent, "latent", 0, 4), c = latent.shape[1], h = latent.shape[2], w = latent.shape[3], f = vae_->config().factor();
  check(c == info_.latent_channels && b >= 1 && h >= 1 && w >= 1 && h <= 4096 && w <= 4096, ErrorCode::kInvalidArgument,
        "latent is not (B, ", info_.latent_channels, ", h, w)");
  check(static_cast<int64_t>(latent.data.size()) == b * c * h * w, ErrorCode::kInvalidArgument, "latent has ", latent.data.size(), " numbers");
  const std::vector<float> in = reorder(latent.data, b, c, h * w, true);
  HostArray out{{}, {b, 3, h * f, w * f}};
  for (int64_t i = 0; i < b; ++i) {
    scratch_.reset();
    const TensorView z = scratch_.take(DType::kF32, {1, h, w, c}), pixels = scratch_.take(DType::kF32, {1, h * f, w * f, 3});
    backend_.upload(z, in.data() + i * c * h * w);
    vae_->decode(z, pixels, scratch_);
    const HostArray image = download_array(pixels, {});
    out.data.insert(out.data.end(), image.data.begin(), image.data.end());
  }
  out.data = reorder(out.data, b, 3, h * f * w * f, false);
  return out;
}

HostArray Engine::probe_vae_encode(const HostArray& pixels) {
  const int64_t b = dim(pixels, "pixels", 0, 4), h = pixels.shape[2], w = pixels.shape[3], f = vae_->config().factor(), c = info_.latent_channels;
  check(pixels.shape[1] == 3 && b >= 1 && h >= f && w >= f && h <= 16384 && w <= 16384 && h % f == 0 && w % f == 0, ErrorCode::kInvalidArgument,
        "pixels are not (B, 3, H, W) with sides divisible by ", f);
  check(static_cast<int64_t>(pixels.data.size()) == b * 3 * h * w, ErrorCode::kInvalidArgument, "pixels has ", pixels.data.size(), " numbers");
  const std::vector<float> in = reorder(pixels.data, b, 3, h * w, true);
  HostArray out{{}, {b, c, h / f, w / f}};
  for (int64_t i = 0; i < b; ++i) {
    scratch_.reset();
    const TensorView x = scratch_.take(DType::kF32, {1, h, w, 3}), mean = scratch_.take(DType::kF32, {1, h / f, w / f, c});
    backend_.upload(x, in.data() + i * 3 * h * w);
    vae_->encode(x, mean, scratch_);
    const HostArray one = download_array(mean, {});
    out.data.insert(out.data.end(), one.data.begin(), one.data.end());
  }
  out.data = reorder(out.data, b, c, h / f * (w / f), false);
  return out;
}

HostArray Engine::probe_tokens(uint32_t id) {
  const auto found = sequences_.find(id);
  check(found != sequences_.end(), ErrorCode::kInvalidArgument, "sequence ", id, " is not live");
  scratch_.reset();
  const Sequence& sequence = found->second;
  if (sequence.emitted == 0) return {{}, {0, info_.token_size}};
  const TensorView rows = scratch_.take(DType::kF32, {sequence.emitted, info_.token_size});
  gather_tokens(sequence, 0, sequence.emitted, rows);
  return download_array(rows, {sequence.emitted, info_.token_size});
}

}  // namespace ardiff
