// The engine of the TransDiff family (docs/transdiff.md).
//
// One step: release and admit sequences, copy blocks; run the transformer for passes that begin; then some timesteps of the
// current pass of every planned sequence, all of them in one batch whatever their progress; decode latents to pixels.
#pragma once

#include <memory>

#include "engine/class_features.h"
#include "engine/engine.h"
#include "engine/kv_cache.h"
#include "engine/pass_sampler.h"
#include "engine/row_pool.h"
#include "engine/transdiff_plan.h"
#include "model/vae.h"

namespace ardiff {

class TransDiffEngine final : public Engine {
 public:
  // Throws kInvalidModel, kOutOfMemory, kInvalidArgument. The backend must outlive the engine.
  TransDiffEngine(Backend& backend, const std::filesystem::path& directory, const LoadOptions& options);

  const TransDiffConfig& config() const { return config_; }

  StepResult step(const StepPlan& plan) override;
  HostArrays probe(const ProbeRequest& request) override;

  // transdiff_probe.cpp. x (R, N, C), condition (R, M, D), tau (R) = 1000 t -> v (R, N, C).
  HostArray probe_decoder_call(const HostArray& x, const HostArray& condition, const HostArray& tau);
  // labels (B), noise (1, B, N, C), step_noise (draws, B, N, C) -> z0 … (R, pass tokens (i + 1), D), the rows of the classes, then
  // with guidance as many of no class; latents (B, C, side, side).
  HostArrays probe_class_to_latent(const HostArray& labels, const HostArray& noise, const HostArray& step_noise, const SequenceSpec& settings);
  // The latents of a live sequence's passes so far, the last one as it stands: (passes, N, C).
  HostArray probe_latents(uint32_t sequence);

 private:
  TransDiffEngine(Backend& backend, const std::filesystem::path& directory, const Checkpoint& checkpoint, const LoadOptions& options);
  void load_vae(const std::filesystem::path& directory, const LoadOptions& options);
  const Vae& vae() const;  // throws kInvalidArgument without one
  int32_t label_of(const TransDiffSequence& sequence, int64_t row) const;
  void admit(const SequenceSpec& spec);
  void release(uint32_t id);
  void run_transformer(const StepPlan& plan, StepResult& result);
  void run_timesteps(const StepPlan& plan, StepResult& result);
  void decode_images(const StepPlan& plan, StepResult& result);
  DecodedImage decode_image(const TransDiffSequence& sequence, int64_t timesteps);

  Backend& backend_;
  TransDiffConfig config_;
  Scratch scratch_;
  ClassTransformer transformer_;
  DiffusionDecoder decoder_;
  ClassFeatures features_;
  PassSampler sampler_;
  KvCache kv_;
  RowPool latents_;  // (rows, N C)
  std::unique_ptr<Vae> vae_;
  TransDiffSequences sequences_;
  int64_t max_step_tokens_;
};

}  // namespace ardiff
