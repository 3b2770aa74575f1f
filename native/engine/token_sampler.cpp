#include "engine/token_sampler.h"

#include <algorithm>

namespace ardiff {

namespace {

// Modulations are computed for several timesteps at once, about this many rows: enough to read the adaLN weights
// rarely, few enough for the result to stay in cache. Results do not depend on it (ops.h, same bytes).
constexpr int64_t kModulationRows = 64;

constexpr uint32_t kPurposeInitialNoise = 0;
constexpr uint32_t kPurposeTimestepNoise = 1;

bool is_cancelled(const Sequence& sequence) { return sequence.cancelled->load(std::memory_order_relaxed); }

}  // namespace

// One sequence of the batch.
struct TokenSampler::Member {
  Sequence* sequence;
  int32_t state;          // its row of x
  int32_t first_row;      // its first row of condition
  int32_t num_rows;
  int32_t first_draw = 0; // its first row of noise
};

struct TokenSampler::Noise {
  TensorView draws;  // (K, D) f32
};

TokenSampler::Noise TokenSampler::draw_noise(const std::vector<Member>& members) const {
  int64_t total = 0;
  for (const Member& m : members) total += noise_draws(m.sequence->spec.sampler);
  const TensorView draws = scratch_.take(DType::kF32, {total, token_size_});
  const TensorView keys = scratch_.take(DType::kI32, {total, 5});
  std::vector<int32_t> words;
  words.reserve(static_cast<size_t>(5 * total));
  for (const Member& m : members) {
    const SequenceSpec& spec = m.sequence->spec;
    for (int64_t draw = 0; draw < noise_draws(spec.sampler); ++draw) {
      const uint32_t timestep = draw == 0 ? 0u : static_cast<uint32_t>(draw - 1);
      const uint32_t purpose = draw == 0 ? kPurposeInitialNoise : kPurposeTimestepNoise;
      const uint32_t attempt = 0;
      for (const uint32_t word : {static_cast<uint32_t>(spec.seed), static_cast<uint32_t>(spec.seed >> 32), timestep | purpose << 16,
                                  static_cast<uint32_t>(m.sequence->emitted), attempt}) {
        words.push_back(static_cast<int32_t>(word));
      }
    }
  }
  backend_.upload(keys, words.data());
  backend_.philox_normal(keys, draws);
  for (const Member& m : members) {
    const SequenceSpec& spec = m.sequence->spec;
    if (spec.noise.empty()) continue;
    const int64_t n = noise_draws(spec.sampler);
    const float* recorded = spec.noise.data() + m.sequence->emitted * n * token_size_;
    backend_.upload(draws.row_slice(m.first_draw, m.first_draw + n), recorded);
  }
  return {draws};
}

int64_t TokenSampler::sample(std::span<Sequence* const> sequences, const TensorView& condition, const TensorView& x) const {
  const Scratch::Frame frame(scratch_);
  std::vector<Member> members;
  int32_t row = 0, draw = 0;
  for (size_t i = 0; i < sequences.size(); ++i) {
    const auto rows = static_cast<int32_t>(sequences[i]->rows.size());
    members.push_back({sequences[i], static_cast<int32_t>(i), row, rows, draw});
    row += rows;
    draw += static_cast<int32_t>(noise_draws(sequences[i]->spec.sampler));
  }
  const Noise noise = draw_noise(members);
  std::vector<int32_t> initial;
  initial.reserve(members.size());
  for (const Member& m : members) initial.push_back(m.first_draw);
  const TensorView initial_index = scratch_.take(DType::kI32, {static_cast<int64_t>(initial.size())});
  backend_.upload(initial_index, initial.data());
  backend_.gather_rows(noise.draws, initial_index, x);

  // Sequences with many timesteps first: those that are done leave the batch at its end.
  std::stable_sort(members.begin(), members.end(), [](const Member& a, const Member& b) {
    return a.sequence->timesteps->steps.size() > b.sequence->timesteps->steps.size();
  });
  int64_t evaluations = 0;
  int64_t k = 0;
  while (true) {
    std::erase_if(members, [k](const Member& m) {
      return static_cast<int64_t>(m.sequence->timesteps->steps.size()) <= k || is_cancelled(*m.sequence);
    });
    if (members.empty()) return evaluations;
    int64_t rows = 0;
    for (const Member& m : members) rows += m.num_rows;
    const auto shortest = static_cast<int64_t>(members.back().sequence->timesteps->steps.size());
    const int64_t end = std::min(shortest, k + std::max<int64_t>(1, kModulationRows / rows));
    const int64_t done = run_timesteps(members, noise, condition, x, k, end);
    evaluations += done * rows;
    k += done;
  }
}

// Timesteps [begin, end) of a fixed set of sequences; returns how many were run before a cancel flag was seen
// (at least one).
int64_t TokenSampler::run_timesteps(std::span<const Member> active, const Noise& noise, const TensorView& condition, const TensorView& x,
                                    int64_t begin, int64_t end) const {
  const Scratch::Frame frame(scratch_);
  const auto a = static_cast<int64_t>(active.size());
  const int64_t steps = end - begin;
  std::vector<int32_t> x_rows, row_begin{0}, states, tau_index, condition_index, noise_index;
  std::vector<float> coefficients;
  for (const Member& m : active) {
    for (int32_t r = 0; r < m.num_rows; ++r) x_rows.push_back(static_cast<int32_t>(states.size()));
    states.push_back(m.state);
    row_begin.push_back(row_begin.back() + m.num_rows);
  }
  for (int64_t k = begin; k < end; ++k) {
    for (const Member& m : active) {
      const Sequence& s = *m.sequence;
      const SamplerStep& step = s.timesteps->steps[static_cast<size_t>(k)];
      for (int32_t r = 0; r < m.num_rows; ++r) {
        tau_index.push_back(s.timesteps->tau_rows[static_cast<size_t>(k)]);
        condition_index.push_back(m.first_row + r);
      }
      // The last step of sampler A draws nothing (gamma = 0); any valid row will do.
      noise_index.push_back(step.gamma == 0.0f ? m.first_draw : m.first_draw + 1 + static_cast<int32_t>(k));
      for (const float value : {step.a, step.b, step.gamma, guidance_at(s.spec.guidance_schedule, s.spec.guidance_scale, s.emitted, s.num_tokens()),
                                guidance_at(s.spec.guidance_schedule, s.spec.image_guidance_scale, s.emitted, s.num_tokens())}) {
        coefficients.push_back(value);
      }
    }
  }
  const int64_t r = row_begin.back();
  const auto index = [this](const std::vector<int32_t>& values) {
    const TensorView view = scratch_.take(DType::kI32, {static_cast<int64_t>(values.size())});
    backend_.upload(view, values.data());
    return view;
  };
  const TensorView x_row_view = index(x_rows), row_begin_view = index(row_begin), state_view = index(states);
  const TensorView tau_view = index(tau_index), condition_view = index(condition_index);
  const TensorView noise_view = index(noise_index).reshape({steps, a});
  const TensorView coefficient_view = scratch_.take(DType::kF32, {steps * a, 5});
  backend_.upload(coefficient_view, coefficients.data());
  const TensorView modulation = scratch_.take(DType::kF32, {steps * r, head_.modulation_size()});
  const TensorView x_active = scratch_.take(DType::kF32, {a, token_size_});
  const TensorView v = scratch_.take(DType::kF32, {r, token_size_});
  head_.modulate(times_.tau(), tau_view, condition, condition_view, modulation, scratch_);
  for (int64_t k = 0; k < steps; ++k) {
    if (k > 0 && std::any_of(active.begin(), active.end(), [](const Member& m) { return is_cancelled(*m.sequence); })) return k;
    backend_.gather_rows(x, state_view, x_active);
    head_.velocity(x_active, x_row_view, modulation.row_slice(k * r, (k + 1) * r), v, scratch_);
    backend_.flow_step(x, v, row_begin_view, state_view, coefficient_view.row_slice(k * a, (k + 1) * a), noise.draws,
                       noise_view.row_slice(k, k + 1).reshape({a}));
  }
  return steps;
}

}  // namespace ardiff
