// The engine of the TransDiff family (docs/transdiff.md).
//
// One step: release and admit sequences, copy blocks; run the transformer for passes that begin; draft and judge references
// where that is asked for; then some timesteps of the current pass of every planned sequence, those of one decoder in one batch
// whatever their progress; decode latents to pixels.
#pragma once

#include <functional>
#include <memory>

#include "engine/class_features.h"
#include "engine/engine.h"
#include "engine/kv_cache.h"
#include "engine/pass_sampler.h"
#include "engine/reference_drafts.h"
#include "engine/row_pool.h"
#include "engine/transdiff_plan.h"
#include "model/vae.h"

namespace ardiff {

class TransDiffEngine final : public Engine {
 public:
  // Throws kInvalidModel, kOutOfMemory, kInvalidArgument. The backend must outlive the engine.
  TransDiffEngine(Backend& backend, const std::filesystem::path& directory, const LoadOptions& options);

  const TransDiffConfig& config() const { return config_; }

  HostArrays probe(const ProbeRequest& request) override;

  // Puts another drafter in the place of the few-step decoder's, made of what that one works with: for tests. Between steps
  // only, with an accelerator loaded.
  void set_drafter(const std::function<std::unique_ptr<ReferenceDrafter>(const ReferenceParts&)>& make) { drafter_ = make(reference_parts()); }

  // transdiff_probe.cpp. x (R, N, C), condition (R, M, D), tau (R) = 1000 t -> v (R, N, C).
  HostArray probe_decoder_call(const HostArray& x, const HostArray& condition, const HostArray& tau);
  // Likewise of the few-step decoder: the average velocity from t (R) to r (R).
  HostArray probe_few_step(const HostArray& x, const HostArray& t, const HostArray& r, const HostArray& condition);
  // labels (B), noise (1, B, N, C), step_noise (draws, B, N, C) -> z0 … (R, pass tokens (i + 1), D), the rows of the classes, then
  // with guidance as many of no class; latents (B, C, side, side). With few steps there is one row, and no step_noise.
  HostArrays probe_class_to_latent(const HostArray& labels, const HostArray& noise, const HostArray& step_noise, const SequenceSpec& settings);
  // The latents of a live sequence's passes so far, the last one as it stands: (passes, N, C).
  HostArray probe_latents(uint32_t sequence);

 private:
  TransDiffEngine(Backend& backend, const std::filesystem::path& directory, const Checkpoint& checkpoint, const LoadOptions& options);
  // Null without; the folder has nothing else of this family.
  std::unique_ptr<DiffusionDecoder> load_few_step(const LoadOptions& options);
  ReferenceParts reference_parts();
  int64_t few_step_blocks() const { return few_step_decoder_ ? few_step_decoder_->num_blocks() : 0; }
  void load_vae(const std::filesystem::path& directory, const LoadOptions& options);
  const Vae& vae() const;  // throws kInvalidArgument without one
  int32_t label_of(const TransDiffSequence& sequence, int64_t row) const;
  void check_step(const StepPlan& plan) const override;
  void admit(const SequenceSpec& spec) override;
  // By what its passes are drawn and drafted, from its spec.
  void choose_timesteps(TransDiffSequence& sequence);
  void release(uint32_t id) override;
  void run_step(const StepPlan& plan, StepResult& result) override;
  void release_all() override;
  void run_transformer(const StepPlan& plan, StepResult& result);
  HostArray call_decoder(const DiffusionDecoder& decoder, const HostArray& x, const HostArray& condition, std::span<const float> taus, std::span<const float> ends);

  // transdiff_passes.cpp. A decoded sequence in its step:
  struct Drawing;
  void run_passes(const StepPlan& plan, StepResult& result);
  std::vector<ConditionRow> conditions_of(const Drawing& one) const;
  // References that begin and are to be drafted. Those that are accepted have their pass behind them.
  void draft_references(std::vector<Drawing>& drawing, StepResult& result);
  static void settle(Drawing& one, double statistic);
  // Timesteps of the current pass of each, all drawn by one decoder.
  void draw_timesteps(std::span<Drawing> drawing, const PassSampler& sampler, std::span<const KvLayer> layers, StepResult& result);

  void decode_images(const StepPlan& plan, StepResult& result);
  DecodedImage decode_image(const TransDiffSequence& sequence, int64_t timesteps);

  TransDiffConfig config_;
  ClassTransformer transformer_;
  DiffusionDecoder decoder_;
  std::unique_ptr<DiffusionDecoder> few_step_decoder_;  // of the accelerator, null without
  ClassFeatures features_;
  PassSampler sampler_;
  std::unique_ptr<PassSampler> few_step_;               // likewise
  KvCache kv_;
  RowPool latents_;  // (rows, N C)
  std::unique_ptr<Vae> vae_;
  std::unique_ptr<ReferenceDrafter> drafter_;            // null without an accelerator
  std::unique_ptr<ReferenceVerification> verification_;  // likewise
  TransDiffSequences sequences_;
  int64_t max_step_tokens_;
  bool caches_;
};

}  // namespace ardiff
