// NextStepEngine: what leaves it. Drawn tokens for those who ask, and latents to pixels.
#include "engine/decode_picture.h"
#include "engine/nextstep_engine.h"
#include "engine/stopwatch.h"

namespace ardiff {

void NextStepEngine::gather_tokens(const Sequence& sequence, int64_t begin, int64_t end, const TensorView& out) {
  if (end == begin) return;
  const std::vector<int32_t> rows(sequence.shown_rows().begin() + begin, sequence.shown_rows().begin() + end);
  backend_.gather_rows(tokens_->view(), scratch_.index(rows), out);
}

// A sequence whose cancel flag is set may have drawn fewer tokens than planned; nobody looks at it any more.
void NextStepEngine::read_tokens(const StepPlan& plan, StepResult& result) {
  const Stopwatch watch;
  for (const ReadEntry& entry : plan.read) {
    const Sequence& sequence = sequences_.at(entry.sequence);
    if (sequence.cancelled->load(std::memory_order_relaxed)) continue;
    const Scratch::Frame frame(scratch_);
    const int64_t count = entry.end - entry.begin;
    const TensorView rows = scratch_.take(DType::kF32, {count, info_.token_size});
    gather_tokens(sequence, entry.begin, entry.end, rows);
    DrawnTokens tokens{entry.sequence, entry.begin, entry.end, std::vector<float>(static_cast<size_t>(count * info_.token_size))};
    backend_.download(rows, tokens.data.data());
    result.tokens.push_back(std::move(tokens));
  }
  if (!plan.read.empty()) result.timings.preview += watch.seconds();
}

void NextStepEngine::decode_images(const StepPlan& plan, StepResult& result) {
  for (const VaeEntry& entry : plan.vae) {
    const Stopwatch watch;
    const Sequence& sequence = sequences_.at(entry.sequence);
    if (sequence.cancelled->load(std::memory_order_relaxed)) continue;
    result.images.push_back(decode_image(sequence, entry.tokens));
    (entry.tokens == sequence.num_tokens() ? result.timings.vae : result.timings.preview) += watch.seconds();
  }
}

// One picture at a time and of a given number of tokens, so its bytes depend neither on who shares the step nor on how
// many tokens the sequence has by now.
DecodedImage NextStepEngine::decode_image(const Sequence& sequence, int64_t num_tokens) {
  const Scratch::Frame frame(scratch_);
  const int64_t gh = sequence.spec.grid_height, gw = sequence.spec.grid_width;
  // The other tokens are latent 0.
  const TensorView tokens = scratch_.take(DType::kF32, {gh * gw, info_.token_size});
  const std::vector<float> zeros(static_cast<size_t>(gh * gw * info_.token_size), 0.0f);
  backend_.upload(tokens, zeros.data());
  gather_tokens(sequence, 0, num_tokens, tokens.row_slice(0, num_tokens));
  DecodedImage image = decode_picture(backend_, scratch_, *vae_, tokens, gh, info_.latent_patch_size);
  image.sequence = sequence.spec.id;
  image.tokens = num_tokens;
  return image;
}

}  // namespace ardiff
