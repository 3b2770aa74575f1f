#include "engine/transdiff_plan.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "engine/plan_rules.h"

namespace ardiff {

namespace {

class PlannedPictures : public PlannedSequences<TransDiffSequence> {
 public:
  PlannedPictures(const StepPlan& plan, const Map& sequences, const TransDiffConfig& config) : PlannedSequences(plan, sequences), config_(config) {}

  int64_t num_rows(uint32_t id) const { return guidance_rows(spec(id)); }
  PassSteps steps(uint32_t id) const { return pass_steps(spec(id), config_.num_passes); }
  int64_t done(uint32_t id) const { return admitted(id) != nullptr ? 0 : live(id).done; }
  int64_t pass(uint32_t id) const { return steps(id).pass_at(done(id)); }
  int64_t computed_passes(uint32_t id, int64_t row) const { return admitted(id) != nullptr ? 0 : live(id).computed_passes[static_cast<size_t>(row)]; }

 private:
  const TransDiffConfig& config_;
};

void check_acceleration(const SequenceSpec& spec, const TransDiffConfig& config, bool has_few_step) {
  argument(is_few_step(spec.few_step), spec.id, spec.few_step, " is not one of 0, 1, 2, 4 few steps");
  argument(has_few_step || (spec.few_step == 0 && !spec.speculation), spec.id, "asks for few steps or drafts, but no few-step decoder is loaded");
  if (!spec.speculation) return;
  const SpeculationSpec& speculation = *spec.speculation;
  check_speculation_numbers(spec);
  argument(config.num_passes > 1, spec.id, "drafts, but this model has no references: it draws a single pass");
  // Their laws differ in as many numbers as a latent has: next to nothing would be accepted.
  argument(speculation.mode == SpeculationMode::kRelaxed, spec.id, "whole passes cannot be verified exactly");
  argument(speculation.draft_jumps > 0 && is_few_step(speculation.draft_jumps), spec.id, speculation.draft_jumps, " is not one of 1, 2, 4 jumps of a draft");
  argument(speculation.gate.kind == speculation::GateKind::kOff && speculation.drafting == Drafting::kSequential, spec.id,
           "asks for a gate or parallel drafts, which need a draft model");
}

void check_spec(const SequenceSpec& spec, const TransDiffConfig& config, bool has_few_step) {
  argument(spec.class_label >= 0 && spec.class_label < config.num_classes, spec.id, "class ", spec.class_label, " outside [0, ", config.num_classes, ")");
  argument(spec.prompt_rows.empty() && spec.input_image_tokens.empty(), spec.id, "has prompt rows or an input picture, this model takes a class");
  argument(spec.grid_height == config.grid && spec.grid_width == config.grid, spec.id, "grid ", spec.grid_height, "x", spec.grid_width,
           ", this model draws ", config.grid, "x", config.grid);
  argument(spec.seed < kMaxSeed, spec.id, "seed ", spec.seed, " is not below 2^53");
  argument(spec.sampler.sampler == Sampler::kMaruyama, spec.id, "asks for a sampler that this model does not have");
  // Below 1 the reference mixes up its batch (transdiff.md 9.2): there is no meaning to keep.
  argument(spec.guidance_scale >= 1.0 && std::isfinite(spec.guidance_scale), spec.id, "guidance scale ", spec.guidance_scale, " is below 1 or not finite");
  argument(spec.guidance_schedule == GuidanceSchedule::kConstant && !spec.use_norm, spec.id, "asks for a guidance schedule or normalised tokens");
  check_acceleration(spec, config, has_few_step);
  sampler_steps(spec.sampler);  // throws for a sampler out of range
  // The last timestep of a pass draws none, few steps draw the initial noise alone.
  const PassSteps steps = pass_steps(spec, config.num_passes);
  const int64_t of_model = spec.few_step == 0 ? steps.passes : spec.speculation ? steps.passes - 1 : 0;
  const int64_t draws = 1 + of_model * (noise_draws(spec.sampler) - 1);
  argument(spec.noise.empty() || static_cast<int64_t>(spec.noise.size()) == draws * config.latent_size(), spec.id, "recorded noise has ",
           spec.noise.size(), " numbers, expected ", draws * config.latent_size());
}

}  // namespace

int64_t pass_at(const TransDiffConfig& config, int64_t position) {
  if (position == 0) return 0;
  const int64_t tokens = position - config.class_tokens;
  return tokens > 0 && tokens % config.pass_tokens == 0 ? tokens / config.pass_tokens : -1;
}

void check_transdiff_plan(const StepPlan& plan, const TransDiffSequences& sequences, const TransDiffConfig& config, const TransDiffLimits& limits) {
  const PlannedPictures state(plan, sequences, config);
  for (const SequenceSpec& spec : plan.admit) check_spec(spec, config, limits.has_few_step);
  check_copies(plan.copies, limits.num_blocks);
  int64_t rows = 0;
  std::map<std::pair<uint32_t, int64_t>, int64_t> prefilled;  // (sequence, row) -> passes computed after it
  for (const PrefillEntry& entry : plan.prefill) {
    planned(entry.row >= 0 && entry.row < state.num_rows(entry.sequence), entry.sequence, "has no row ", entry.row);
    const int64_t first = pass_at(config, entry.begin), end = pass_at(config, entry.end), known = state.pass(entry.sequence) + 1;
    planned(first >= 0 && end > first, entry.sequence, "prefill [", entry.begin, ", ", entry.end, ") is no whole number of passes");
    planned(first <= state.computed_passes(entry.sequence, entry.row), entry.sequence, "prefill from pass ", first, ", ",
            state.computed_passes(entry.sequence, entry.row), " are computed");
    planned(end <= known || state.cancelled(entry.sequence), entry.sequence, "prefill of ", end, " passes, ", known, " are known");
    planned(prefilled.emplace(std::pair(entry.sequence, entry.row), end).second, entry.sequence, "row ", entry.row, " is prefilled twice");
    check_blocks(entry.block_table, entry.end, config.block_tokens(), entry.sequence, limits.num_blocks);
    rows += entry.end - entry.begin;
  }
  check(rows <= limits.max_step_tokens, ErrorCode::kInvalidPlan, "the step has ", rows, " transformer rows, the limit is ", limits.max_step_tokens);
  std::unordered_map<uint32_t, int64_t> decoded;
  for (const DecodeEntry& entry : plan.decode) {
    const uint32_t id = entry.sequence;
    planned(decoded.emplace(id, entry.rounds).second, id, "is decoded twice");
    planned(static_cast<int64_t>(entry.block_tables.size()) == state.num_rows(id), id, entry.block_tables.size(), " block tables for ",
            state.num_rows(id), " rows");
    // It is left out of the step, so nothing else of it matters.
    if (state.cancelled(id)) continue;
    const PassSteps steps = state.steps(id);
    planned(state.done(id) < steps.total(), id, "is complete");
    const int64_t left = steps.begin_of(state.pass(id)) + steps.of(state.pass(id)) - state.done(id);
    planned(entry.rounds >= 1 && entry.rounds <= std::min(left, kMaxStepTimesteps), id, entry.rounds, " timesteps, at most ", kMaxStepTimesteps,
            " of the ", left, " left of its pass");
    for (int64_t row = 0; row < state.num_rows(id); ++row) {
      const auto found = prefilled.find({id, row});
      const int64_t computed = found == prefilled.end() ? state.computed_passes(id, row) : found->second;
      planned(computed > state.pass(id), id, "row ", row, " has computed ", computed, " passes, cannot draw pass ", state.pass(id));
      check_blocks(entry.block_tables[static_cast<size_t>(row)], config.positions_of_pass(state.pass(id)), config.block_tokens(), id, limits.num_blocks);
    }
  }
  for (const VaeEntry& entry : plan.vae) {
    check(limits.has_vae, ErrorCode::kInvalidPlan, "a picture is asked for, but the model was loaded without its VAE");
    if (state.cancelled(entry.sequence)) continue;
    const auto found = decoded.find(entry.sequence);
    const int64_t available = state.done(entry.sequence) + (found == decoded.end() ? 0 : found->second);
    planned(entry.tokens <= available && state.steps(entry.sequence).ended_by(entry.tokens) > 0, entry.sequence, "picture after ",
            entry.tokens, " timesteps, which is no finished pass of the ", available, " done");
  }
  check(plan.read.empty(), ErrorCode::kInvalidPlan, "this model has no finished rows to read while a picture is drawn");
}

}  // namespace ardiff
