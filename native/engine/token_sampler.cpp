#include "engine/token_sampler.h"

#include <algorithm>

#include "engine/noise_purpose.h"

namespace ardiff {

namespace {

// Modulations are computed for several timesteps at once, about this many rows: enough to read the adaLN weights
// rarely, few enough for the result to stay in cache. Results do not depend on it (ops.h, same bytes).
constexpr int64_t kModulationRows = 64;

bool is_cancelled(const Sequence& sequence) { return sequence.cancelled->load(std::memory_order_relaxed); }

void push_coefficients(std::vector<float>& out, const Sequence& sequence, int64_t token, float a, float b, float gamma) {
  const SequenceSpec& spec = sequence.spec;
  for (const float value : {a, b, gamma, guidance_at(spec.guidance_schedule, spec.guidance_scale, token, sequence.num_tokens()),
                            guidance_at(spec.guidance_schedule, spec.image_guidance_scale, token, sequence.num_tokens())}) {
    out.push_back(value);
  }
}

}  // namespace

// One token of the batch.
struct TokenSampler::Member {
  TokenDraw draw;
  int32_t state;       // its row of x
  int32_t first_draw;  // its first row of noise
  int64_t num_steps() const { return static_cast<int64_t>(draw.timesteps->steps.size()); }
};

void TokenSampler::embed_times(std::span<const SamplerStep> steps, const TensorView& tau) const {
  std::vector<float> times, ends;
  for (const SamplerStep& step : steps) times.push_back(step.t);
  for (size_t k = 0; k < times.size(); ++k) ends.push_back(k + 1 < times.size() ? times[k + 1] : 1.0f);
  head_.embed_times(times, ends, tau, scratch_);
}

int64_t TokenSampler::noise_rows(const Member& member, bool initial_only) { return initial_only ? 1 : noise_draws(member.draw.timesteps->spec); }

// (K, D) f32: initial noise and timestep noise of every member.
TensorView TokenSampler::draw_noise(const std::vector<Member>& members, bool initial_only) const {
  int64_t total = 0;
  for (const Member& m : members) total += noise_rows(m, initial_only);
  const TensorView draws = scratch_.take(DType::kF32, {total, head_.token_size()});
  const TensorView keys = scratch_.take(DType::kI32, {total, 5});
  std::vector<int32_t> words;
  words.reserve(static_cast<size_t>(5 * total));
  for (const Member& m : members) {
    const uint64_t seed = m.draw.sequence->spec.seed;
    for (int64_t draw = 0; draw < noise_rows(m, initial_only); ++draw) {
      const uint32_t timestep = draw == 0 ? 0u : static_cast<uint32_t>(draw - 1);
      const uint32_t purpose = draw == 0 ? kPurposeInitialNoise : kPurposeTimestepNoise;
      for (const uint32_t word : {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32), timestep | purpose << 16,
                                  static_cast<uint32_t>(m.draw.token), m.draw.attempt}) {
        words.push_back(static_cast<int32_t>(word));
      }
    }
  }
  backend_.upload(keys, words.data());
  backend_.philox_normal(keys, draws);
  for (const Member& m : members) {
    const SequenceSpec& spec = m.draw.sequence->spec;
    if (spec.noise.empty()) continue;
    const int64_t recorded = noise_draws(m.draw.timesteps->spec);
    backend_.upload(draws.row_slice(m.first_draw, m.first_draw + noise_rows(m, initial_only)),
                    spec.noise.data() + m.draw.token * recorded * head_.token_size());
  }
  return draws;
}

void TokenSampler::initial_noise(std::span<const TokenDraw> draws, const TensorView& x) const {
  const Scratch::Frame frame(scratch_);
  std::vector<Member> members;
  for (const TokenDraw& draw : draws) members.push_back({draw, static_cast<int32_t>(members.size()), static_cast<int32_t>(members.size())});
  backend_.convert(draw_noise(members, true), x);  // same dtype: a copy
}

int64_t TokenSampler::sample(std::span<const TokenDraw> draws, const TensorView& condition, const TensorView& x, const PathRecord* record) const {
  const Scratch::Frame frame(scratch_);
  std::vector<Member> members;
  int32_t draw = 0;
  for (size_t i = 0; i < draws.size(); ++i) {
    members.push_back({draws[i], static_cast<int32_t>(i), draw});
    draw += static_cast<int32_t>(noise_draws(draws[i].timesteps->spec));
  }
  const TensorView noise = draw_noise(members);
  std::vector<int32_t> fresh_from, fresh_to;
  for (const Member& m : members) {
    if (m.draw.first_step > 0) continue;
    fresh_from.push_back(m.first_draw);
    fresh_to.push_back(m.state);
  }
  if (fresh_to.size() == members.size()) {
    backend_.gather_rows(noise, scratch_.index(fresh_from), x);
  } else if (!fresh_to.empty()) {
    const TensorView rows = scratch_.take(DType::kF32, {static_cast<int64_t>(fresh_to.size()), head_.token_size()});
    backend_.gather_rows(noise, scratch_.index(fresh_from), rows);
    backend_.scatter_rows(rows, scratch_.index(fresh_to), x);
  }

  // Those with many timesteps first: those that are done leave the batch at its end.
  std::stable_sort(members.begin(), members.end(), [](const Member& a, const Member& b) { return a.num_steps() > b.num_steps(); });
  int64_t evaluations = 0;
  for (int64_t k = 0;;) {
    std::erase_if(members, [k](const Member& m) { return m.num_steps() <= k || is_cancelled(*m.draw.sequence); });
    if (members.empty()) return evaluations;
    std::vector<Member> active;
    int64_t rows = 0, end = members.back().num_steps();
    for (const Member& m : members) {
      // One that goes on from a later step waits for it, and the batch changes there.
      if (m.draw.first_step > k) {
        end = std::min(end, m.draw.first_step);
        continue;
      }
      active.push_back(m);
      rows += m.draw.num_rows;
    }
    if (active.empty()) {
      k = end;
      continue;
    }
    end = std::min(end, k + std::max<int64_t>(1, kModulationRows / rows));
    const int64_t done = run_timesteps(active, noise, condition, x, k, end, record);
    evaluations += done * rows;
    k += done;
  }
}

// Timesteps [begin, end) of a fixed set of tokens; returns how many were run before a cancel flag was seen (at least one; all where the
// backend keeps them as one stretch).
int64_t TokenSampler::run_timesteps(std::span<const Member> active, const TensorView& noise, const TensorView& condition, const TensorView& x,
                                    int64_t begin, int64_t end, const PathRecord* record) const {
  const Scratch::Frame frame(scratch_);
  const auto a = static_cast<int64_t>(active.size());
  const int64_t steps = end - begin;
  std::vector<int32_t> x_rows, row_begin{0}, states, tau_index, condition_index, noise_index;
  std::vector<int32_t> recorded, recorded_rows;  // of the active, and of their rows of v
  std::vector<float> coefficients;
  for (const Member& m : active) {
    if (record != nullptr && m.draw.record >= 0) {
      recorded.push_back(static_cast<int32_t>(states.size()));
      recorded_rows.push_back(row_begin.back());
    }
    for (int32_t r = 0; r < m.draw.num_rows; ++r) x_rows.push_back(static_cast<int32_t>(states.size()));
    states.push_back(m.state);
    row_begin.push_back(row_begin.back() + m.draw.num_rows);
  }
  for (int64_t k = begin; k < end; ++k) {
    for (const Member& m : active) {
      const SamplerStep& step = m.draw.timesteps->steps[static_cast<size_t>(k)];
      for (int32_t r = 0; r < m.draw.num_rows; ++r) {
        tau_index.push_back(m.draw.timesteps->tau_rows[static_cast<size_t>(k)]);
        condition_index.push_back(m.draw.first_row + r);
      }
      // Steps without noise have none; any valid row will do.
      noise_index.push_back(step.gamma == 0.0f ? m.first_draw : m.first_draw + 1 + static_cast<int32_t>(k));
      push_coefficients(coefficients, *m.draw.sequence, m.draw.token, step.a, step.b, step.gamma);
    }
  }
  const int64_t r = row_begin.back();
  const TensorView x_row_view = scratch_.index(x_rows), row_begin_view = scratch_.index(row_begin), state_view = scratch_.index(states);
  const TensorView tau_view = scratch_.index(tau_index), condition_view = scratch_.index(condition_index);
  const TensorView noise_view = scratch_.index(noise_index).reshape({steps, a});
  const TensorView coefficient_view = scratch_.take(DType::kF32, {steps * a, 5});
  backend_.upload(coefficient_view, coefficients.data());
  const TensorView modulation = scratch_.take(DType::kF32, {steps * r, head_.modulation_size()});
  const TensorView x_active = scratch_.take(DType::kF32, {a, head_.token_size()});
  const TensorView v = scratch_.take(DType::kF32, {r, head_.token_size()});
  // Of the record: rows of x_active, v and noise to copy, and where to, for each timestep.
  std::vector<int32_t> targets, recorded_noise;
  for (int64_t k = 0; k < steps && !recorded.empty(); ++k) {
    for (const Member& m : active) {
      if (m.draw.record >= 0) targets.push_back(m.draw.record + static_cast<int32_t>(begin + k));
    }
    for (const int32_t member : recorded) recorded_noise.push_back(noise_index[static_cast<size_t>(k * a + member)]);
  }
  const auto n = static_cast<int64_t>(recorded.size());
  TensorView from_x, from_v, from_noise, to_record;
  if (n > 0) {
    from_x = scratch_.index(recorded), from_v = scratch_.index(recorded_rows);
    from_noise = scratch_.index(recorded_noise).reshape({steps, n}), to_record = scratch_.index(targets).reshape({steps, n});
  }
  const auto write = [&](const TensorView& from, const TensorView& rows, const TensorView& to, int64_t k) {
    const TensorView picked = scratch_.take(DType::kF32, {n, head_.token_size()});
    backend_.gather_rows(from, rows, picked);
    backend_.scatter_rows(picked, to_record.row_slice(k, k + 1).reshape({n}), to);
  };
  const auto run_timestep = [&](int64_t k) {
    backend_.gather_rows(x, state_view, x_active);
    head_.velocity(x_active, x_row_view, modulation.row_slice(k * r, (k + 1) * r), v, scratch_);
    if (n > 0) {
      const Scratch::Frame record_frame(scratch_);
      write(x_active, from_x, record->states, k);
      write(v, from_v, record->velocity, k);
      if (record->noise) write(noise, from_noise.row_slice(k, k + 1).reshape({n}), record->noise, k);
    }
    backend_.flow_step(x, v, row_begin_view, state_view, coefficient_view.row_slice(k * a, (k + 1) * a), noise,
                       noise_view.row_slice(k, k + 1).reshape({a}));
  };
  const auto modulate = [&] { head_.modulate(times_.tau(), tau_view, condition, condition_view, modulation, scratch_); };
  if (backend_.keeps_stretches()) {
    StretchKey key(owner_);
    key.add(x).add(noise).add(condition).add(times_.tau()).add(modulation).add(x_active).add(v);
    key.add(x_row_view).add(row_begin_view).add(state_view).add(tau_view).add(condition_view).add(noise_view).add(coefficient_view);
    if (n > 0) key.add(from_x).add(from_v).add(from_noise).add(to_record).add(record->states).add(record->velocity).add(record->noise);
    scratch_.add_place(key);
    backend_.run_stretch(key, [&] {
      modulate();
      for (int64_t k = 0; k < steps; ++k) run_timestep(k);
    });
    return steps;
  }
  modulate();
  for (int64_t k = 0; k < steps; ++k) {
    if (k > 0 && std::any_of(active.begin(), active.end(), [](const Member& m) { return is_cancelled(*m.draw.sequence); })) return k;
    run_timestep(k);
  }
  return steps;
}

int64_t TokenSampler::evaluate(std::span<const PathPoints> paths, const TensorView& condition, const TensorView& states, const TensorView& velocity,
                               const TensorView& next) const {
  struct Point {
    const PathPoints* path;
    size_t step;
  };
  std::vector<Point> points;
  for (const PathPoints& path : paths) {
    for (size_t k = 0; k < path.timesteps->steps.size(); ++k) points.push_back({&path, k});
  }
  int64_t evaluations = 0;
  for (size_t begin = 0; begin < points.size();) {
    const Scratch::Frame frame(scratch_);
    std::vector<int32_t> rows, x_rows, row_begin{0}, tau_index, condition_index;
    std::vector<float> guide, advance;
    size_t end = begin;
    while (end < points.size() && (end == begin || row_begin.back() + points[end].path->num_rows <= kModulationRows)) {
      const PathPoints& path = *points[end].path;
      const SamplerStep& step = path.timesteps->steps[points[end].step];
      for (int32_t r = 0; r < path.num_rows; ++r) {
        x_rows.push_back(static_cast<int32_t>(rows.size()));
        tau_index.push_back(path.timesteps->tau_rows[points[end].step]);
        condition_index.push_back(path.first_row + r);
      }
      rows.push_back(path.first_state + static_cast<int32_t>(points[end].step));
      row_begin.push_back(row_begin.back() + path.num_rows);
      push_coefficients(guide, *path.sequence, path.token, 0.0f, 1.0f, 0.0f);
      push_coefficients(advance, *path.sequence, path.token, step.a, step.b, 0.0f);
      ++end;
    }
    const auto s = static_cast<int64_t>(rows.size());
    const int64_t r = row_begin.back();
    std::vector<int32_t> identity(rows.size());
    for (size_t i = 0; i < identity.size(); ++i) identity[i] = static_cast<int32_t>(i);
    const TensorView row_view = scratch_.index(rows), identity_view = scratch_.index(identity), row_begin_view = scratch_.index(row_begin);
    const TensorView x = scratch_.take(DType::kF32, {s, head_.token_size()});
    const TensorView v = scratch_.take(DType::kF32, {r, head_.token_size()});
    const TensorView modulation = scratch_.take(DType::kF32, {r, head_.modulation_size()});
    const TensorView coefficients = scratch_.take(DType::kF32, {s, 5});
    backend_.gather_rows(states, row_view, x);
    head_.modulate(times_.tau(), scratch_.index(tau_index), condition, scratch_.index(condition_index), modulation, scratch_);
    head_.velocity(x, scratch_.index(x_rows), modulation, v, scratch_);
    if (next) {
      backend_.upload(coefficients, advance.data());
      backend_.flow_step(x, v, row_begin_view, identity_view, coefficients, states, identity_view);
      backend_.scatter_rows(x, row_view, next);
      backend_.gather_rows(states, row_view, x);
    }
    // 0 x + 1 g: the guided velocity, mixed exactly as the sampler mixes it.
    backend_.upload(coefficients, guide.data());
    backend_.flow_step(x, v, row_begin_view, identity_view, coefficients, states, identity_view);
    backend_.scatter_rows(x, row_view, velocity);
    evaluations += r;
    begin = end;
  }
  return evaluations;
}

}  // namespace ardiff
