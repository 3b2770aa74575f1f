#include "engine/rehearsal.h"

#include <algorithm>
#include <numeric>

#include "engine/transdiff_plan.h"

namespace ardiff {

namespace {

constexpr int64_t kRows = 2;  // with guidance

// Hands out the pool's blocks from the first to the last.
class Blocks {
 public:
  explicit Blocks(const ModelInfo& info) : left_(info.kv_blocks), block_tokens_(info.block_tokens) {}
  int64_t left() const { return left_; }
  std::vector<int32_t> take(int64_t positions) {
    std::vector<int32_t> out(static_cast<size_t>((positions + block_tokens_ - 1) / block_tokens_));
    std::iota(out.begin(), out.end(), static_cast<int32_t>(next_));
    next_ += static_cast<int64_t>(out.size());
    left_ -= static_cast<int64_t>(out.size());
    return out;
  }

 private:
  int64_t left_, block_tokens_, next_ = 0;
};

StepPlan release(int64_t sequences) {
  StepPlan plan;
  for (int64_t id = 0; id < sequences; ++id) plan.release.push_back(static_cast<uint32_t>(id));
  return plan;
}

SequenceSpec text_picture(const ModelInfo& info, int64_t id, int64_t rows, int64_t prompt, const Rehearsal& pictures) {
  SequenceSpec spec;
  spec.id = static_cast<uint32_t>(id);
  spec.prompt_rows.assign(static_cast<size_t>(rows), std::vector<int32_t>(static_cast<size_t>(prompt), static_cast<int32_t>(info.boi_token_id)));
  spec.grid_height = pictures.grid_height;
  spec.grid_width = pictures.grid_width;
  spec.sampler.timesteps = pictures.timesteps;
  spec.guidance_scale = rows > 1 ? 2.0 : 1.0;
  return spec;
}

SpeculationSpec drafting() {
  SpeculationSpec spec;
  spec.max_draft_tokens = 1;
  spec.costs = {1.0, 1.0, 1.0, 1.0};
  spec.acceptance = 0.5;
  return spec;
}

// All pictures draw, and the rest of the step's rows are prompts; then a picture of the largest size.
void rehearse_text(Engine& engine, const LoadOptions& options) {
  const ModelInfo& info = engine.info();
  const Rehearsal& pictures = options.rehearsal;
  Blocks blocks(info);
  const int64_t n = std::min({pictures.pictures, options.max_step_tokens / kRows, info.kv_blocks / kRows});
  if (n == 0) return;
  StepPlan prefill, decode;
  for (int64_t id = 0; id < n; ++id) {
    prefill.admit.push_back(text_picture(info, id, kRows, 1, pictures));
    std::vector<std::vector<int32_t>> tables;
    for (int64_t row = 0; row < kRows; ++row) {
      tables.push_back(blocks.take(2));
      prefill.prefill.push_back({static_cast<uint32_t>(id), row, 0, 1, tables.back()});
    }
    decode.decode.push_back({static_cast<uint32_t>(id), tables, 1});
  }
  engine.step(prefill);
  int64_t rows = options.max_step_tokens - n * kRows, sequences = n;
  const int64_t longest = info.max_positions - pictures.grid_height * pictures.grid_width;
  while (rows > 0 && longest > 0 && blocks.left() > 0) {
    const int64_t prompt = std::min({rows, longest, blocks.left() * info.block_tokens});
    decode.admit.push_back(text_picture(info, sequences, 1, prompt, pictures));
    decode.prefill.push_back({static_cast<uint32_t>(sequences), 0, 0, prompt, blocks.take(prompt)});
    rows -= prompt;
    ++sequences;
  }
  decode.vae.push_back({0, 1});
  engine.step(decode);
  engine.step(release(sequences));
  if (info.accelerator.draft_layers == 0 || !info.accelerator.draft_head) return;
  // Speculating pictures keep more between steps.
  StepPlan drafters;
  for (int64_t id = 0; id < n; ++id) {
    drafters.admit.push_back(text_picture(info, id, kRows, 1, pictures));
    drafters.admit.back().speculation = drafting();
  }
  engine.step(drafters);
  engine.step(release(n));
}

// All pictures begin together; then one of them is decoded.
void rehearse_classes(Engine& engine, const LoadOptions& options) {
  const ModelInfo& info = engine.info();
  const ClassInfo& classes = info.classes;
  const int64_t first = classes.class_tokens + classes.pass_tokens, timesteps = options.rehearsal.timesteps;
  const bool has_vae = !options.vae || !options.vae->empty();
  const int64_t row_blocks = (first + info.block_tokens - 1) / info.block_tokens;
  const int64_t n = std::min({options.rehearsal.pictures, options.max_step_tokens / (kRows * first), info.kv_blocks / (kRows * row_blocks)});
  if (n == 0) return;
  Blocks blocks(info);
  StepPlan plan;
  for (int64_t id = 0; id < n; ++id) {
    SequenceSpec spec;
    spec.id = static_cast<uint32_t>(id);
    spec.class_label = id % classes.num_classes;
    spec.grid_height = spec.grid_width = classes.grid;
    spec.sampler.sampler = Sampler::kMaruyama;
    spec.sampler.timesteps = timesteps;
    spec.guidance_scale = 2.0;
    plan.admit.push_back(spec);
    DecodeEntry decode{spec.id, {}, 0};
    for (int64_t row = 0; row < kRows; ++row) {
      decode.block_tables.push_back(blocks.take(first));
      plan.prefill.push_back({spec.id, row, 0, first, decode.block_tables.back()});
    }
    plan.decode.push_back(decode);
  }
  for (int64_t left = timesteps; left > 0;) {
    const int64_t rounds = std::min(left, kMaxStepTimesteps);
    for (DecodeEntry& entry : plan.decode) entry.rounds = rounds;
    left -= rounds;
    if (left == 0 && has_vae) plan.vae.push_back({0, timesteps});
    engine.step(plan);
    plan.admit.clear();
    plan.prefill.clear();
  }
  engine.step(release(n));
}

}  // namespace

void rehearse(Engine& engine, const LoadOptions& options) {
  if (engine.info().family == "transdiff") {
    rehearse_classes(engine, options);
  } else {
    rehearse_text(engine, options);
  }
}

}  // namespace ardiff
