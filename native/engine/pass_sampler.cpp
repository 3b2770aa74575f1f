#include "engine/pass_sampler.h"

#include <algorithm>

#include "engine/noise_purpose.h"

namespace ardiff {

namespace {

// A released model's table takes 40 MB a setting.
constexpr size_t kKeepUnusedTimes = 4;

// Guidance rows of one call of an evaluation: as many as a full batch of pictures has. Results do not depend on it.
constexpr int64_t kEvaluatedRows = 32;

void push_coefficients(std::vector<float>& out, const TransDiffSequence& sequence, float a, float b, float gamma) {
  out.insert(out.end(), {a, b, gamma, static_cast<float>(sequence.spec.guidance_scale), 1.0f});
}

int32_t latent_row(const PassDraw& draw) { return draw.sequence->latent_rows[static_cast<size_t>(draw.pass)]; }

}  // namespace

// What stays the same while the same draws are active.
struct PassSampler::Batch {
  TensorView states;     // (A) their rows of the latents
  TensorView row_begin;  // (A + 1) their rows of v
  DiffusionDecoder::Batch decoder;
  Recomputation::Batch anew;  // without caches
};

PassSampler::PassSampler(Backend& backend, Scratch& scratch, const TransDiffConfig& config, const DiffusionDecoder& decoder, bool caches)
    : backend_(backend),
      scratch_(scratch),
      decoder_(decoder),
      latent_size_(config.latent_size()),
      recomputation_(caches ? nullptr : std::make_unique<Recomputation>(backend, scratch, config, decoder)),
      times_(backend, scratch, decoder.modulation_size(), kKeepUnusedTimes, [this](std::span<const SamplerStep> steps, const TensorView& modulation) {
        std::vector<float> taus, ends;
        for (const SamplerStep& step : steps) taus.push_back(1000.0f * step.t);
        for (size_t k = 0; k < taus.size(); ++k) ends.push_back(k + 1 < taus.size() ? taus[k + 1] : 0.0f);
        decoder_.embed_times(taus, ends, modulation, scratch_);
      }) {}

// noise: (draws, N C) f32. The initial noise is that of pass 0 in every pass (transdiff.md 6.4).
void PassSampler::draw_noise(std::span<const PassDraw* const> draws, std::span<const int64_t> timesteps, bool initial, const TensorView& noise) const {
  const Scratch::Frame frame(scratch_);
  const TensorView keys = scratch_.take(DType::kI32, {noise.rows(), 5});
  std::vector<int32_t> words;
  for (size_t i = 0; i < draws.size(); ++i) {
    const uint64_t seed = draws[i]->sequence->spec.seed;
    const auto pass = initial ? 0u : static_cast<uint32_t>(draws[i]->pass);
    const uint32_t step = initial ? kPurposeInitialNoise << 16 : static_cast<uint32_t>(timesteps[i]) | kPurposeTimestepNoise << 16;
    for (const uint32_t word : {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32), step, pass, 0u}) words.push_back(static_cast<int32_t>(word));
  }
  backend_.upload(keys, words.data());
  backend_.philox_normal(keys, noise);
  for (size_t i = 0; i < draws.size(); ++i) {
    const TransDiffSequence& sequence = *draws[i]->sequence;
    if (sequence.spec.noise.empty()) continue;
    // Recorded: the initial noise, then n - 1 draws of each pass.
    const int64_t at = initial ? 0 : 1 + draws[i]->pass * (sequence.steps.each - 1) + timesteps[i];
    const auto row = static_cast<int64_t>(i);
    backend_.upload(noise.row_slice(row, row + 1), sequence.spec.noise.data() + at * latent_size_);
  }
}

void PassSampler::start(std::span<const PassDraw> draws, const TensorView& latents) const {
  std::vector<const PassDraw*> fresh;
  std::vector<int32_t> rows;
  for (const PassDraw& draw : draws) {
    if (draw.begin > 0) continue;
    fresh.push_back(&draw);
    rows.push_back(latent_row(draw));
  }
  if (fresh.empty()) return;
  const Scratch::Frame frame(scratch_);
  const TensorView noise = scratch_.take(DType::kF32, {static_cast<int64_t>(fresh.size()), latent_size_});
  draw_noise(fresh, {}, true, noise);
  backend_.scatter_rows(noise, scratch_.index(rows), latents);
}

std::vector<int64_t> PassSampler::sample(std::span<const PassDraw> draws, const TensorView& latents, std::span<const KvLayer> kv, int64_t& evaluations,
                                         const PassRecord* record) const {
  start(draws, latents);
  std::vector<int64_t> done(draws.size(), 0);
  std::vector<const PassDraw*> active;
  for (const PassDraw& draw : draws) active.push_back(&draw);
  const auto leaves = [](const PassDraw* draw, int64_t step) { return draw->begin + step >= draw->end || draw->sequence->is_cancelled(); };
  for (int64_t step = 0;;) {
    std::erase_if(active, [&](const PassDraw* draw) { return leaves(draw, step); });
    if (active.empty()) return done;
    const Scratch::Frame frame(scratch_);
    std::vector<int32_t> states, row_begin{0}, row_states;
    std::vector<ConditionRow> conditions;
    std::vector<TensorView> features;
    for (const PassDraw* draw : active) {
      features.insert(features.end(), draw->features.begin(), draw->features.end());
      for (const ConditionRow& condition : draw->conditions) {
        row_states.push_back(static_cast<int32_t>(states.size()));
        conditions.push_back(condition);
      }
      states.push_back(latent_row(*draw));
      row_begin.push_back(static_cast<int32_t>(conditions.size()));
    }
    const Batch batch{scratch_.index(states), scratch_.index(row_begin), decoder_.prepare(row_states, conditions, scratch_),
                      recomputation_ ? recomputation_->prepare(conditions, features) : Recomputation::Batch{}};
    do {
      advance(active, batch, step, latents, kv, record);
      ++step;
      evaluations += batch.decoder.rows;
      for (const PassDraw* draw : active) ++done[static_cast<size_t>(draw - draws.data())];
    } while (std::none_of(active.begin(), active.end(), [&](const PassDraw* draw) { return leaves(draw, step); }));
  }
}

// Timestep begin + step of every active draw.
void PassSampler::advance(std::span<const PassDraw* const> active, const Batch& batch, int64_t step, const TensorView& latents,
                          std::span<const KvLayer> kv, const PassRecord* record) const {
  const Scratch::Frame frame(scratch_);
  std::vector<int32_t> times, noise_index, recorded;
  std::vector<float> taus, coefficients;
  std::vector<const PassDraw*> noisy;
  std::vector<int64_t> noisy_timesteps;
  for (const PassDraw* draw : active) {
    const TransDiffSequence& sequence = *draw->sequence;
    const auto k = static_cast<size_t>(draw->begin + step);
    const SamplerStep& s = draw->timesteps->steps[k];
    times.insert(times.end(), draw->conditions.size(), draw->timesteps->tau_rows[k]);
    taus.insert(taus.end(), draw->conditions.size(), 1000.0f * s.t);
    push_coefficients(coefficients, sequence, s.a, s.b, s.gamma);
    if (draw->record >= 0) recorded.push_back(draw->record + static_cast<int32_t>(k));
    noise_index.push_back(s.gamma == 0.0f ? 0 : static_cast<int32_t>(noisy.size()));  // not read where there is none
    if (s.gamma == 0.0f) continue;
    noisy.push_back(draw);
    noisy_timesteps.push_back(static_cast<int64_t>(k));
  }
  const auto a = static_cast<int64_t>(active.size());
  const TensorView x = scratch_.take(DType::kF32, {a, latent_size_}), v = scratch_.take(DType::kF32, {batch.decoder.rows, latent_size_});
  const TensorView scales = scratch_.take(DType::kF32, {a, 5});
  TensorView noise;
  if (!noisy.empty()) {
    noise = scratch_.take(DType::kF32, {static_cast<int64_t>(noisy.size()), latent_size_});
    draw_noise(noisy, noisy_timesteps, false, noise);
  }
  backend_.upload(scales, coefficients.data());
  backend_.gather_rows(latents, batch.states, x);
  if (recomputation_) {
    decoder_.velocity(x, batch.decoder, recomputation_->run(batch.anew, taus, kv, times), times, kv, v, scratch_);
  } else {
    decoder_.velocity(x, batch.decoder, times_.tau(), times, kv, v, scratch_);
  }
  if (record != nullptr) {
    check(recorded.size() == active.size() && batch.decoder.rows == a, ErrorCode::kInternal, "recorded passes are all recorded, and have one row");
    backend_.scatter_rows(x, scratch_.index(recorded), record->states);
    backend_.scatter_rows(v, scratch_.index(recorded), record->velocity);
  }
  backend_.flow_step(latents, v, batch.row_begin, batch.states, scales, noise, scratch_.index(noise_index));
}

void PassSampler::evaluate(std::span<const PassPoints> paths, const TensorView& states, std::span<const KvLayer> kv, const TensorView& velocity,
                           int64_t& evaluations) const {
  struct Point {
    const PassPoints* path;
    size_t step;
  };
  std::vector<Point> points;
  for (const PassPoints& path : paths) {
    for (size_t k = 0; k < path.timesteps->steps.size(); ++k) points.push_back({&path, k});
  }
  for (size_t begin = 0; begin < points.size();) {
    const Scratch::Frame frame(scratch_);
    std::vector<int32_t> rows, row_begin{0}, row_states, times, identity;
    std::vector<ConditionRow> conditions;
    std::vector<float> coefficients;
    size_t end = begin;
    while (end < points.size() && (end == begin || row_begin.back() + static_cast<int64_t>(points[end].path->conditions.size()) <= kEvaluatedRows)) {
      const PassPoints& path = *points[end].path;
      for (const ConditionRow& condition : path.conditions) {
        row_states.push_back(static_cast<int32_t>(rows.size()));
        times.push_back(path.timesteps->tau_rows[points[end].step]);
        conditions.push_back(condition);
      }
      identity.push_back(static_cast<int32_t>(rows.size()));
      rows.push_back(path.first_state + static_cast<int32_t>(points[end].step));
      row_begin.push_back(static_cast<int32_t>(conditions.size()));
      // 0 x + 1 g: the guided velocity, mixed exactly as the sampler mixes it.
      push_coefficients(coefficients, *path.sequence, 0.0f, 1.0f, 0.0f);
      ++end;
    }
    const auto s = static_cast<int64_t>(rows.size());
    const TensorView x = scratch_.take(DType::kF32, {s, latent_size_}), v = scratch_.take(DType::kF32, {row_begin.back(), latent_size_});
    const TensorView scales = scratch_.take(DType::kF32, {s, 5}), row_view = scratch_.index(rows), identity_view = scratch_.index(identity);
    backend_.gather_rows(states, row_view, x);
    backend_.upload(scales, coefficients.data());
    decoder_.velocity(x, decoder_.prepare(row_states, conditions, scratch_), times_.tau(), times, kv, v, scratch_);
    backend_.flow_step(x, v, scratch_.index(row_begin), identity_view, scales, states, identity_view);
    backend_.scatter_rows(x, row_view, velocity);
    evaluations += row_begin.back();
    begin = end;
  }
}

}  // namespace ardiff
