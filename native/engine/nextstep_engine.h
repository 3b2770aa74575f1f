// The engine of the NextStep family.
//
// One step: release and admit sequences, copy blocks; in rounds draw one token for every decoded sequence (flow head),
// draft more where it speculates, run one backbone pass over all prefill, decode and draft rows, verify; hand out drawn
// tokens; decode latents to pixels.
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "engine/batch.h"
#include "engine/conditions.h"
#include "engine/draft_paths.h"
#include "engine/drafter.h"
#include "engine/engine.h"
#include "engine/kv_cache.h"
#include "engine/plan_check.h"
#include "engine/row_pool.h"
#include "engine/step_plan.h"
#include "engine/token_sampler.h"
#include "engine/verification.h"
#include "model/backbone.h"
#include "model/flow_head.h"
#include "model/vae.h"
#include "backend/scratch.h"

namespace ardiff {

class NextStepEngine final : public Engine {
 public:
  // Throws kInvalidModel, kOutOfMemory, kInvalidArgument. The backend must outlive the engine.
  NextStepEngine(Backend& backend, const std::filesystem::path& directory, const LoadOptions& options);
  ~NextStepEngine() override;

  HostArrays probe(const ProbeRequest& request) override;

  // Puts another drafter in the place of the draft model's, made of what that one works with: for tests. Between steps
  // only, with a draft model loaded.
  void set_drafter(const std::function<std::unique_ptr<Drafter>(const DraftParts&)>& make) { drafter_ = make(draft_parts()); }

  // Parts of the model on given inputs (golden cases); shapes as in ProbeRequest of native-types.ts.
  HostArray probe_flow_head(const HostArray& x, const HostArray& t, const HostArray& condition);
  // The average velocity from t to r.
  HostArray probe_few_step(const HostArray& x, const HostArray& t, const HostArray& r, const HostArray& condition);
  HostArray probe_draft_head(const HostArray& x, const HostArray& t, const HostArray& condition);
  // Pairs at positions 0 … T - 1, then `parallel` mask rows: predicted features of positions 1 … T + parallel, and of the
  // rows from `first_key` on the attention entropy over the keys from there on, in each layer of the draft.
  std::pair<HostArray, HostArray> probe_draft(const HostArray& features, const HostArray& inputs, int64_t parallel, int64_t first_key);
  HostArray probe_sampler(const HostArray& condition, const HostArray& noise, const SequenceSpec& settings);
  // ids (T), then embeddings (S, H) as further positions: hidden states of both.
  std::pair<HostArray, HostArray> probe_backbone(const HostArray& ids, const HostArray& step_embedding);
  HostArray probe_vae_decode(const HostArray& latent) { return ardiff::probe_vae_decode(backend_, scratch_, *vae_, latent); }
  HostArray probe_vae_encode(const HostArray& pixels) { return ardiff::probe_vae_encode(backend_, scratch_, *vae_, pixels); }
  HostArray probe_tokens(uint32_t sequence);

 private:
  HostArray probe_head(const FlowHead& head, const HostArray& x, const HostArray& t, const std::vector<float>& r, const HostArray& condition);
  void check_step(const StepPlan& plan) const override;
  void admit(const SequenceSpec& spec) override;
  void release(uint32_t id) override;
  void run_step(const StepPlan& plan, StepResult& result) override;
  void release_all() override;
  void load_accelerator(const std::filesystem::path& directory, const std::shared_ptr<LoadProgress>& progress);
  DraftParts draft_parts();
  const TokenSampler& sampler_for(const Sequence& sequence) const { return sequence.spec.few_step > 0 ? *few_step_ : *sampler_; }
  TokenSampler& sampler_for(const Sequence& sequence) { return sequence.spec.few_step > 0 ? *few_step_ : *sampler_; }

  // rounds.cpp. A decoded sequence in its rounds:
  struct Drawing;
  void run_rounds(const StepPlan& plan, StepResult& result);
  // The pending token of each; removes those from the list whose cancel flag was seen first.
  void draw_pending(std::vector<Drawing>& drawing, StepResult& result);
  void draft_tokens(std::vector<Drawing>& drawing, StepResult& result);
  // Attention entropies of the decoded rows, in their order, for those that read them; empty where nobody does.
  TensorView run_backbone(std::span<const PrefillEntry> prefill, std::vector<Drawing>& drawing, StepResult& result);
  void fill_pairs(const FlatBatch& flat, const TensorView& x, const TensorView& block_tables);
  // The one wait of a round: verdicts and entropies.
  void verify_drafts(std::vector<Drawing>& drawing, const TensorView& entropy, StepResult& result);
  void show_target_tokens(const Sequence& sequence, const VerifyRequest& request, int64_t accepted);
  static void share_entropy(std::vector<Drawing>& drawing, std::span<const float> entropy);
  static void settle(Drawing& drawing, const Judgement& judgement);

  void read_tokens(const StepPlan& plan, StepResult& result);
  void decode_images(const StepPlan& plan, StepResult& result);
  DecodedImage decode_image(const Sequence& sequence, int64_t num_tokens);
  // Drawn tokens [begin, end) -> out: (end - begin, D) f32.
  void gather_tokens(const Sequence& sequence, int64_t begin, int64_t end, const TensorView& out);
  PlanLimits limits() const;

  NextStepConfig config_;
  std::unique_ptr<Backbone> backbone_;
  std::unique_ptr<Vae> vae_;
  std::unique_ptr<KvCache> kv_;
  std::unique_ptr<RowPool> hidden_;  // (rows, H) hidden states that tokens are drawn from
  std::unique_ptr<RowPool> tokens_;  // (rows, D) drawn and input image tokens
  std::unique_ptr<TokenSampler> sampler_;     // the model's head
  std::unique_ptr<TokenSampler> few_step_;    // of the accelerator, null without
  std::unique_ptr<TokenSampler> draft_head_;  // likewise
  std::unique_ptr<DraftModel> draft_;         // likewise
  std::unique_ptr<Conditions> conditions_;
  std::unique_ptr<TokenStore> store_;
  std::unique_ptr<DraftPaths> paths_;
  std::unique_ptr<Verification> verification_;
  std::unique_ptr<Drafter> drafter_;
  SequenceMap sequences_;
  int64_t max_step_tokens_ = 0;
};

}  // namespace ardiff
