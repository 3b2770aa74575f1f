// References of TransDiff pictures, drafted and judged (docs/speculation.md, Passes): the few-step decoder draws one in a few
// jumps, one call of the model's decoder at all their states says how far it is off.
#pragma once

#include <span>
#include <vector>

#include "engine/pass_sampler.h"

namespace ardiff {

// A reference to draft.
struct ReferenceRequest {
  const TransDiffSequence* sequence = nullptr;
  int64_t pass = 0;
  std::vector<ConditionRow> conditions;  // one per guidance row; a draft attends to the first
};

// Drafts, and the paths they were drawn by.
struct ReferencePaths {
  std::vector<int64_t> first;  // row of each request's first jump
  PassRecord record;           // in the scratch
};

// What both work with; owned by the engine.
struct ReferenceParts {
  Backend& backend;
  Scratch& scratch;
  const PassSampler& few_step;
  std::span<const KvLayer> few_step_layers;
  const PassSampler& model;
  std::span<const KvLayer> model_layers;
  int64_t latent_size;
};

// The engine asks this; tests put other drafts in.
class ReferenceDrafter {
 public:
  virtual ~ReferenceDrafter() = default;
  // Writes each draft into its sequence's row of the latents (rows, N C), where the pass's own latent would stand. Drafts whose
  // cancel flag is seen are not drawn to their end. Adds the network evaluations.
  virtual ReferencePaths draw(std::span<const ReferenceRequest> requests, const TensorView& latents, int64_t& evaluations) = 0;
};

class FewStepDrafter final : public ReferenceDrafter {
 public:
  explicit FewStepDrafter(const ReferenceParts& parts) : p_(parts) {}
  ReferencePaths draw(std::span<const ReferenceRequest> requests, const TensorView& latents, int64_t& evaluations) override;

 private:
  ReferenceParts p_;
};

class ReferenceVerification {
 public:
  explicit ReferenceVerification(const ReferenceParts& parts) : p_(parts) {}
  // Statistic of each draft: the largest distance, over its jumps, between what it and the model make of the data there (R-jump).
  // Of one whose cancel flag was seen it means nothing. Adds the network evaluations.
  std::vector<double> judge(std::span<const ReferenceRequest> requests, const ReferencePaths& paths, int64_t& evaluations) const;

 private:
  DraftedSequences describe(std::span<const ReferenceRequest> requests, const ReferencePaths& paths) const;

  ReferenceParts p_;
};

}  // namespace ardiff
