// TransDiffEngine: the passes of a step. A picture that drafts its references (docs/speculation.md, Passes) has each of them
// proposed by the few-step decoder and judged by the model's own; one that is refused, and every other pass, is drawn timestep by timestep.
#include <algorithm>

#include "engine/stopwatch.h"
#include "engine/transdiff_engine.h"
#include "speculation/draft_length.h"
#include "speculation/relaxed.h"

namespace ardiff {

struct TransDiffEngine::Drawing {
  const DecodeEntry* entry;
  DecodeResult* result;
  TransDiffSequence* sequence;

  bool begins_reference() const {
    return sequence->drafting && !sequence->is_last(sequence->pass()) && sequence->drafting->decided <= sequence->pass() &&
           sequence->done == sequence->steps.begin_of(sequence->pass());
  }
};

void TransDiffEngine::run_passes(const StepPlan& plan, StepResult& result) {
  std::vector<Drawing> drawing;
  result.decode.resize(plan.decode.size());
  for (size_t i = 0; i < plan.decode.size(); ++i) {
    DecodeResult& decode = result.decode[i];
    TransDiffSequence& sequence = sequences_.at(plan.decode[i].sequence);
    decode.sequence = plan.decode[i].sequence;
    decode.speculating = sequence.drafting.has_value();
    decode.cancelled = sequence.is_cancelled();
    if (!decode.cancelled) drawing.push_back({&plan.decode[i], &decode, &sequence});
  }
  draft_references(drawing, result);
  const auto by_few_step = std::partition(drawing.begin(), drawing.end(), [](const Drawing& one) { return !one.sequence->by_few_step(one.sequence->pass()); });
  draw_timesteps({drawing.begin(), by_few_step}, sampler_, features_.model_layers(kv_), result);
  if (few_step_) draw_timesteps({by_few_step, drawing.end()}, *few_step_, features_.few_step_layers(kv_), result);
  for (DecodeResult& decode : result.decode) decode.emitted_tokens = sequences_.at(decode.sequence).done;
}

std::vector<ConditionRow> TransDiffEngine::conditions_of(const Drawing& one) const {
  std::vector<ConditionRow> out;
  for (const auto& table : one.entry->block_tables) out.push_back({features_.condition_blocks(table), (one.sequence->pass() + 1) * config_.pass_tokens});
  return out;
}

void TransDiffEngine::draft_references(std::vector<Drawing>& drawing, StepResult& result) {
  std::vector<ReferenceRequest> requests;
  std::vector<Drawing*> owners;
  for (Drawing& one : drawing) {
    if (!one.begins_reference()) continue;
    TransDiffSequence& sequence = *one.sequence;
    const SpeculationSpec& spec = *sequence.spec.speculation;
    sequence.drafting->decided = sequence.pass() + 1;
    // One at a time: the next reference's features are the transformer's of this one, so drafts form no chain.
    constexpr int64_t kMost = 1;
    if (spec.adaptive && speculation::choose_draft_length(spec.costs, spec.acceptance, sequence.drafting->history, kMost) == 0) {
      speculation::observe_plain(sequence.drafting->history, 1);
      one.result->rounds.emplace_back();
      continue;
    }
    requests.push_back({&sequence, sequence.pass(), conditions_of(one)});
    owners.push_back(&one);
  }
  if (requests.empty()) return;
  const Scratch::Frame frame(scratch_);
  const Stopwatch drafting;
  const ReferencePaths paths = drafter_->draw(requests, latents_.view(), result.flow_head_evaluations);
  result.timings.draft += drafting.seconds();
  const Stopwatch verifying;
  const std::vector<double> statistics = verification_->judge(requests, paths, result.flow_head_evaluations);
  result.timings.verify += verifying.seconds();
  for (size_t i = 0; i < owners.size(); ++i) {
    owners[i]->result->cancelled = owners[i]->sequence->is_cancelled();
    if (!owners[i]->result->cancelled) settle(*owners[i], statistics[i]);
  }
  // Those that are accepted wait for the features of their next pass.
  std::erase_if(drawing, [](const Drawing& one) { return one.result->cancelled || !one.result->accepted.empty(); });
}

void TransDiffEngine::settle(Drawing& one, double statistic) {
  TransDiffSequence& sequence = *one.sequence;
  const SpeculationSpec& spec = *sequence.spec.speculation;
  const int64_t accepted = speculation::accepted_prefix({&statistic, 1}, spec.tolerance);
  RoundRecord record;
  record.drafted = 1;
  record.accepted = accepted;
  one.result->rounds.push_back(record);
  if (spec.trace) {
    for (const double value : {static_cast<double>(sequence.pass()), 1.0, 0.0, static_cast<double>(accepted), statistic, 0.0}) {
      one.result->trace.push_back(static_cast<float>(value));
    }
  }
  speculation::observe_round(sequence.drafting->history, 1, accepted);
  if (accepted == 0) return;
  one.result->accepted.assign(static_cast<size_t>(sequence.steps.each), 1);
  sequence.done += sequence.steps.each;
}

void TransDiffEngine::draw_timesteps(std::span<Drawing> drawing, const PassSampler& sampler, std::span<const KvLayer> layers, StepResult& result) {
  if (drawing.empty()) return;
  const Stopwatch watch;
  std::vector<PassDraw> draws;
  for (const Drawing& one : drawing) {
    const TransDiffSequence& sequence = *one.sequence;
    const int64_t pass = sequence.pass();
    const int64_t begin = sequence.done - sequence.steps.begin_of(pass);
    std::vector<ConditionRow> conditions = conditions_of(one);
    if (sequence.by_few_step(pass)) conditions.resize(1);
    PassDraw& draw = draws.emplace_back(PassDraw{&sequence, &sequence.timesteps_of(pass), pass, begin, begin + one.entry->rounds, std::move(conditions)});
    draw.features = sequence.conditions;
  }
  const std::vector<int64_t> done = sampler.sample(draws, latents_.view(), layers, result.flow_head_evaluations);
  for (size_t i = 0; i < draws.size(); ++i) {
    DecodeResult& decode = *drawing[i].result;
    drawing[i].sequence->done += done[i];
    decode.cancelled = done[i] < drawing[i].entry->rounds;
    if (decode.speculating) decode.accepted.assign(static_cast<size_t>(done[i]), 0);
  }
  result.timings.flow_head += watch.seconds();
}

}  // namespace ardiff
