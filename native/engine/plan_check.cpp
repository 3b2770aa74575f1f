#include "engine/plan_check.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "engine/kv_cache.h"
#include "engine/plan_rules.h"
#include "speculation/gap.h"

namespace ardiff {

namespace {

constexpr int64_t kMaxGridSide = 256;

void check_prompts(const SequenceSpec& spec, const PlanLimits& limits) {
  argument(!spec.prompt_rows.empty() && spec.prompt_rows.size() <= 3, spec.id, spec.prompt_rows.size(), " prompt rows, expected 1 to 3");
  argument(spec.input_image_tokens.size() % static_cast<size_t>(limits.token_size) == 0, spec.id, "input image of ",
           spec.input_image_tokens.size(), " numbers is no whole number of tokens of ", limits.token_size);
  const auto input_tokens = static_cast<int64_t>(spec.input_image_tokens.size()) / limits.token_size;
  for (const auto& prompt : spec.prompt_rows) {
    argument(!prompt.empty() && prompt.back() == limits.boi_token_id, spec.id, "a prompt row does not end with the begin-of-image token");
    argument(static_cast<int64_t>(prompt.size()) + spec.grid_height * spec.grid_width <= limits.max_positions, spec.id, "prompt of ",
             prompt.size(), " and picture of ", spec.grid_height * spec.grid_width, " tokens exceed the model's ", limits.max_positions, " positions");
    for (const int32_t id : prompt) argument(id >= 0 && id < limits.vocab_size, spec.id, "token id ", id, " outside [0, ", limits.vocab_size, ")");
    const auto placeholders = std::count(prompt.begin(), prompt.end(), limits.image_placeholder_id);
    argument(placeholders == 0 || placeholders == input_tokens, spec.id, placeholders, " image placeholders for ", input_tokens,
             " input image tokens");
  }
}

void check_speculation(const SequenceSpec& spec, const PlanLimits& limits) {
  const SpeculationSpec& speculation = *spec.speculation;
  argument(limits.accelerator.draft_layers > 0, spec.id, "speculates, but no draft model is loaded");
  check_speculation_numbers(spec);
  argument(speculation.draft_jumps == 0, spec.id, "drafts by jumps of their own, which are of models that draw in passes");
  argument(speculation.gate_layer >= 0 && speculation.gate_layer < limits.accelerator.draft_layers, spec.id, "gate reads layer ",
           speculation.gate_layer, " of a draft of ", limits.accelerator.draft_layers);
  if (spec.few_step > 0) {
    argument(speculation.mode == SpeculationMode::kRelaxed, spec.id, "few steps cannot be verified exactly");
    return;
  }
  argument(limits.accelerator.draft_head, spec.id, "drafting for the model's sampler needs a draft head");
  argument(speculation::is_gaussian(sampler_steps(spec.sampler)), spec.id, "the sampler has steps without noise, which cannot be verified");
  argument(speculation.mode == SpeculationMode::kRelaxed || spec.noise.empty(), spec.id, "recorded noise has no second attempt, which exact needs");
}

void check_spec(const SequenceSpec& spec, const PlanLimits& limits) {
  argument(spec.class_label < 0, spec.id, "names a class, which this model has none of");
  argument(spec.sampler.sampler != Sampler::kMaruyama, spec.id, "asks for a sampler that this model does not have");
  argument(spec.grid_height >= 1 && spec.grid_height <= kMaxGridSide && spec.grid_width >= 1 && spec.grid_width <= kMaxGridSide, spec.id,
           "grid ", spec.grid_height, "x", spec.grid_width, " outside 1..", kMaxGridSide);
  check_prompts(spec, limits);
  argument(spec.seed < kMaxSeed, spec.id, "seed ", spec.seed, " is not below 2^53");
  argument(std::isfinite(spec.guidance_scale) && std::isfinite(spec.image_guidance_scale), spec.id, "a guidance scale is not finite");
  const bool few_step = spec.few_step != 0;
  argument(is_few_step(spec.few_step), spec.id, spec.few_step, " is not one of 0, 1, 2, 4 few steps");
  argument(!few_step || limits.accelerator.few_step, spec.id, "asks for few steps, but no few-step head is loaded");
  argument(!few_step || spec.prompt_rows.size() == 1, spec.id, spec.prompt_rows.size(), " prompt rows, few steps take one");
  const SamplerSpec sampler = sampler_of(spec);
  sampler_steps(sampler);  // throws for a sampler out of range
  if (spec.speculation) check_speculation(spec, limits);
  const int64_t expected = spec.grid_height * spec.grid_width * noise_draws(sampler) * limits.token_size;
  argument(spec.noise.empty() || static_cast<int64_t>(spec.noise.size()) == expected, spec.id, "recorded noise has ", spec.noise.size(),
           " numbers, expected ", expected);
}

// Rows and tokens of the sequences that live after release and admit.
class PlannedState : public PlannedSequences<Sequence> {
 public:
  using PlannedSequences::PlannedSequences;

  struct Row {
    int64_t known;           // prompt and drawn tokens
    int64_t computed;        // positions in the cache before this step
    int64_t hidden_position;
  };
  size_t num_rows(uint32_t id) const { return spec(id).prompt_rows.size(); }
  Row row(uint32_t id, size_t index) const {
    if (const SequenceSpec* fresh = admitted(id)) return {static_cast<int64_t>(fresh->prompt_rows[index].size()), 0, -1};
    const Sequence& sequence = live(id);
    return {sequence.known_positions(index), sequence.rows[index].computed, sequence.rows[index].hidden_position};
  }
  int64_t emitted(uint32_t id) const { return admitted(id) != nullptr ? 0 : live(id).emitted; }
  // Tokens that one round may draw.
  int64_t tokens_per_round(uint32_t id) const {
    const auto& speculation = spec(id).speculation;
    return speculation ? speculation->max_draft_tokens + 1 : 1;
  }
  int64_t num_tokens(uint32_t id) const { return spec(id).grid_height * spec(id).grid_width; }
};

}  // namespace

void check_plan(const StepPlan& plan, const SequenceMap& sequences, const PlanLimits& limits) {
  const PlannedState state(plan, sequences);
  for (const SequenceSpec& spec : plan.admit) check_spec(spec, limits);
  check_copies(plan.copies, limits.num_blocks);
  int64_t tokens = 0;
  std::set<std::pair<uint32_t, int64_t>> prefilled;
  for (const PrefillEntry& entry : plan.prefill) {
    planned(entry.row >= 0 && entry.row < static_cast<int64_t>(state.num_rows(entry.sequence)), entry.sequence, "has no row ", entry.row);
    planned(prefilled.emplace(entry.sequence, entry.row).second, entry.sequence, "row ", entry.row, " is prefilled twice");
    const auto row = state.row(entry.sequence, static_cast<size_t>(entry.row));
    planned(entry.begin >= 0 && entry.begin < entry.end && entry.end <= row.known, entry.sequence, "prefill [", entry.begin, ", ", entry.end,
            ") of ", row.known, " known positions");
    check_blocks(entry.block_table, entry.end, KvCache::kBlockTokens, entry.sequence, limits.num_blocks);
    tokens += entry.end - entry.begin;
  }
  std::unordered_map<uint32_t, int64_t> decoded;
  for (const DecodeEntry& entry : plan.decode) {
    planned(decoded.emplace(entry.sequence, entry.rounds).second, entry.sequence, "is decoded twice");
    const size_t rows = state.num_rows(entry.sequence);
    planned(entry.block_tables.size() == rows, entry.sequence, entry.block_tables.size(), " block tables for ", rows, " rows");
    const int64_t lacking = state.num_tokens(entry.sequence) - state.emitted(entry.sequence);
    planned(lacking > 0, entry.sequence, "is complete");
    planned(entry.rounds >= 1 && entry.rounds <= lacking, entry.sequence, entry.rounds, " rounds for the ", lacking, " tokens it lacks");
    // The last token of a picture is not appended.
    const int64_t per_round = state.tokens_per_round(entry.sequence);
    const int64_t appended = std::min(entry.rounds * per_round, lacking - 1);
    for (size_t r = 0; r < rows; ++r) {
      const auto row = state.row(entry.sequence, r);
      planned(!prefilled.contains({entry.sequence, static_cast<int64_t>(r)}), entry.sequence, "is prefilled and decoded in one step");
      planned(row.computed == row.known && row.hidden_position == row.known - 1, entry.sequence, "row ", r, " has computed ", row.computed,
              " of ", row.known, " positions, cannot decode");
      if (appended > 0) check_blocks(entry.block_tables[r], row.known + appended, KvCache::kBlockTokens, entry.sequence, limits.num_blocks);
    }
    tokens += static_cast<int64_t>(rows) * std::min(appended, per_round);
  }
  // Pictures and tokens are taken after the decodes of the same step.
  const auto drawn = [&](uint32_t id) {
    const auto found = decoded.find(id);
    return state.emitted(id) + (found == decoded.end() ? 0 : found->second);
  };
  for (const VaeEntry& entry : plan.vae) {
    if (state.cancelled(entry.sequence)) continue;
    const int64_t available = drawn(entry.sequence);
    planned(entry.tokens >= 0 && entry.tokens <= available, entry.sequence, "picture of ", entry.tokens, " tokens, ", available,
            " are drawn");
  }
  for (const ReadEntry& entry : plan.read) {
    if (state.cancelled(entry.sequence)) continue;
    const int64_t available = drawn(entry.sequence);
    planned(entry.begin >= 0 && entry.begin < entry.end && entry.end <= available, entry.sequence, "read of tokens [", entry.begin, ", ",
            entry.end, "), ", available, " are drawn");
  }
  check(tokens <= limits.max_step_tokens, ErrorCode::kInvalidPlan, "the step has ", tokens, " backbone rows, the limit is ", limits.max_step_tokens);
}

}  // namespace ardiff
