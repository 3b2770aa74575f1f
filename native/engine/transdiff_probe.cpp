// TransDiffEngine::probe_*: parts of the model on given inputs, as the golden cases record them.
#include "engine/transdiff_engine.h"

namespace ardiff {

namespace {

std::vector<int32_t> counting(int64_t begin, int64_t count) {
  std::vector<int32_t> out;
  for (int64_t i = 0; i < count; ++i) out.push_back(static_cast<int32_t>(begin + i));
  return out;
}

// Noise of picture b alone, (draws, N C), from (draws, B, N, C).
void append_noise(const HostArray& noise, int64_t b, int64_t size, std::vector<float>& out) {
  for (int64_t draw = 0; draw < noise.shape[0]; ++draw) {
    const auto from = noise.data.begin() + (draw * noise.shape[1] + b) * size;
    out.insert(out.end(), from, from + size);
  }
}

}  // namespace

HostArrays TransDiffEngine::probe(const ProbeRequest& request) {
  if (request.kind == "decoder_call") {
    return {{"v", probe_decoder_call(request.tensor("x"), request.tensor("condition"), request.tensor("t_times_1000"))}};
  }
  if (request.kind == "few_step") {
    return {{"out", probe_few_step(request.tensor("x"), request.tensor("t"), request.tensor("r"), request.tensor("condition"))}};
  }
  if (request.kind == "class_to_latent") {
    const HostArray none;
    const HostArray& step_noise = request.settings.few_step > 0 ? none : request.tensor("step_noise");
    return probe_class_to_latent(request.tensor("labels"), request.tensor("noise"), step_noise, request.settings);
  }
  if (request.kind == "vae_decode") return {{"image", probe_vae_decode(backend_, scratch_, vae(), request.tensor("latent"))}};
  if (request.kind == "vae_encode") return {{"latent", probe_vae_encode(backend_, scratch_, vae(), request.tensor("pixels"))}};
  if (request.kind == "latents") return {{"latents", probe_latents(request.sequence)}};
  fail(ErrorCode::kInvalidArgument, "unknown probe '", request.kind, "'");
}

HostArray TransDiffEngine::probe_decoder_call(const HostArray& x, const HostArray& condition, const HostArray& tau) {
  return call_decoder(decoder_, x, condition, tau.data, {});
}

HostArray TransDiffEngine::probe_few_step(const HostArray& x, const HostArray& t, const HostArray& r, const HostArray& condition) {
  check(few_step_decoder_ != nullptr, ErrorCode::kInvalidArgument, "no few-step decoder is loaded");
  check(r.data.size() == t.data.size(), ErrorCode::kInvalidArgument, "r has ", r.data.size(), " numbers, expected ", t.data.size());
  std::vector<float> taus, ends;
  for (const float time : t.data) taus.push_back(1000.0f * time);
  for (const float time : r.data) ends.push_back(1000.0f * time);
  return call_decoder(*few_step_decoder_, x, condition, taus, ends);
}

HostArray TransDiffEngine::call_decoder(const DiffusionDecoder& decoder, const HostArray& x, const HostArray& condition, std::span<const float> taus,
                                        std::span<const float> ends) {
  scratch_.reset();
  const int64_t rows = probe_dim(x, "x", 0, 3), n = config_.latent_tokens(), c = config_.latent_channels, d = config_.width;
  const int64_t tokens = probe_dim(condition, "condition", 1, 3);
  check(rows >= 1 && tokens >= 1, ErrorCode::kInvalidArgument, rows, " latents, ", tokens, " condition tokens");
  check(static_cast<int64_t>(taus.size()) == rows, ErrorCode::kInvalidArgument, taus.size(), " times for ", rows, " latents");
  // Its own pool, one block a row: a probe never disturbs live sequences.
  KvCache kv(backend_, KvShape{0, config_.num_heads, tokens, config_.head_dim(), decoder.num_blocks()}, rows);
  decoder.store_condition(upload_array(backend_, scratch_, condition, "condition", {rows * tokens, d}), scratch_.index(counting(0, rows * tokens)),
                           kv.second_layers(), scratch_);
  const std::vector<int32_t> each = counting(0, rows);
  std::vector<ConditionRow> conditions;
  conditions.reserve(each.size());
  for (const int32_t& row : each) conditions.push_back({{&row, 1}, tokens});
  const TensorView modulation = scratch_.take(DType::kF32, {rows, decoder.modulation_size()});
  decoder.embed_times(taus, ends, modulation, scratch_);
  const TensorView v = scratch_.take(DType::kF32, {rows, n * c});
  decoder.velocity(upload_array(backend_, scratch_, x, "x", {rows, n * c}), decoder.prepare(each, conditions, scratch_), modulation, each,
                    kv.second_layers(), v, scratch_);
  return download_array(backend_, v, {rows, n, c});
}

HostArrays TransDiffEngine::probe_class_to_latent(const HostArray& labels, const HostArray& noise, const HostArray& step_noise,
                                                  const SequenceSpec& settings) {
  const auto pictures = static_cast<int64_t>(labels.data.size());
  const int64_t d = config_.width, side = config_.grid, c = config_.latent_channels, size = config_.latent_size();
  check(pictures >= 1, ErrorCode::kInvalidArgument, "no labels");
  check(caches_, ErrorCode::kInvalidArgument, "the model was loaded without its caches; draw with it");
  for (const HostArray* array : {&noise, &step_noise}) {
    if (array == &step_noise && settings.few_step > 0) continue;
    probe_dim(*array, "noise", 0, 4);
    check(array->shape[1] == pictures && array->shape[2] * array->shape[3] == size, ErrorCode::kInvalidArgument, "noise is not (draws, ", pictures,
          ", ", config_.latent_tokens(), ", ", c, ")");
  }
  // Pictures that no plan knows, in a pool of their own.
  std::vector<TransDiffSequence> sequences(static_cast<size_t>(pictures));
  const int64_t rows_each = guidance_rows(settings), blocks = KvCache::blocks_for(config_.positions(), config_.block_tokens());
  KvCache kv(backend_, ClassFeatures::kv_shape(config_, few_step_blocks()), pictures * rows_each * blocks);
  RowPool latents(backend_, size);
  std::vector<std::vector<int32_t>> tables;  // rows of the classes, then as many of no class
  for (int64_t r = 0; r < pictures * rows_each; ++r) tables.push_back(counting(r * blocks, blocks));
  StepPlan plan;
  for (int64_t b = 0; b < pictures; ++b) {
    TransDiffSequence& sequence = sequences[static_cast<size_t>(b)];
    sequence.spec = settings;
    sequence.spec.id = static_cast<uint32_t>(b);
    sequence.spec.grid_height = sequence.spec.grid_width = side;
    sequence.spec.class_label = static_cast<int64_t>(labels.data[static_cast<size_t>(b)]);
    append_noise(noise, b, size, sequence.spec.noise);
    if (settings.few_step == 0) append_noise(step_noise, b, size, sequence.spec.noise);
    sequence.cancelled = std::make_shared<std::atomic<bool>>(false);
    plan.admit.push_back(sequence.spec);
  }
  check_transdiff_plan(plan, {}, config_, {1, max_step_tokens_, false, few_step_ != nullptr});
  for (TransDiffSequence& sequence : sequences) {
    choose_timesteps(sequence);
    sequence.latent_rows = latents.take(config_.num_passes);
  }

  HostArrays out;
  std::vector<HostArray> earlier(tables.size());  // features of each row's passes so far
  for (int64_t pass = 0; pass < config_.num_passes; ++pass) {
    scratch_.reset();
    const auto rows = static_cast<int64_t>(tables.size());
    std::vector<ClassFeatures::Request> requests;
    std::vector<PassDraw> draws;
    for (int64_t r = 0; r < rows; ++r) {
      const TransDiffSequence& sequence = sequences[static_cast<size_t>(r % pictures)];
      requests.push_back({label_of(sequence, r / pictures), pass, pass + 1, tables[static_cast<size_t>(r)], sequence.latent_rows, settings.few_step == 0,
                          settings.few_step > 0});
    }
    const TensorView features = scratch_.take(DType::kF32, {rows * config_.pass_tokens, d});
    features_.compute(requests, latents.view(), kv, features);
    const HostArray fresh = download_array(backend_, features, {});
    HostArray& z = out["z" + std::to_string(pass)];
    z.shape = {rows, (pass + 1) * config_.pass_tokens, d};
    for (int64_t r = 0; r < rows; ++r) {
      std::vector<float>& row = earlier[static_cast<size_t>(r)].data;
      row.insert(row.end(), fresh.data.begin() + r * config_.pass_tokens * d, fresh.data.begin() + (r + 1) * config_.pass_tokens * d);
      z.data.insert(z.data.end(), row.begin(), row.end());
    }
    for (int64_t b = 0; b < pictures; ++b) {
      const TransDiffSequence& sequence = sequences[static_cast<size_t>(b)];
      PassDraw draw{&sequence, &sequence.timesteps_of(pass), pass, 0, sequence.steps.of(pass), {}};
      for (int64_t row = 0; row < rows_each; ++row) {
        draw.conditions.push_back({features_.condition_blocks(tables[static_cast<size_t>(row * pictures + b)]), (pass + 1) * config_.pass_tokens});
      }
      draws.push_back(std::move(draw));
    }
    int64_t evaluations = 0;
    if (settings.few_step > 0) {
      few_step_->sample(draws, latents.view(), features_.few_step_layers(kv), evaluations);
    } else {
      sampler_.sample(draws, latents.view(), features_.model_layers(kv), evaluations);
    }
  }
  HostArray& result = out["latents"];
  result.shape = {pictures, c, side, side};
  for (const TransDiffSequence& sequence : sequences) {
    const int64_t row = sequence.latent_rows.back();
    const HostArray tokens = download_array(backend_, latents.view().row_slice(row, row + 1), {});
    for (int64_t channel = 0; channel < c; ++channel) {
      for (int64_t token = 0; token < side * side; ++token) result.data.push_back(tokens.data[static_cast<size_t>(token * c + channel)]);
    }
  }
  return out;
}

HostArray TransDiffEngine::probe_latents(uint32_t id) {
  const auto found = sequences_.find(id);
  check(found != sequences_.end(), ErrorCode::kInvalidArgument, "sequence ", id, " is not live");
  const TransDiffSequence& sequence = found->second;
  const int64_t n = config_.latent_tokens(), c = config_.latent_channels, begun = sequence.done == 0 ? 0 : sequence.steps.pass_at(sequence.done - 1) + 1;
  HostArray out{{}, {begun, n, c}};
  for (int64_t pass = 0; pass < begun; ++pass) {
    const int64_t row = sequence.latent_rows[static_cast<size_t>(pass)];
    const HostArray latent = download_array(backend_, latents_.view().row_slice(row, row + 1), {});
    out.data.insert(out.data.end(), latent.data.begin(), latent.data.end());
  }
  return out;
}

}  // namespace ardiff
