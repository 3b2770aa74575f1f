// From hidden states to what a flow head is conditioned on: c = image_out_projector(h + position embedding), then the
// head's own embedding of c.
#pragma once

#include <vector>

#include "backend/scratch.h"
#include "model/flow_head.h"
#include "model/model_config.h"

namespace ardiff {

class Conditions {
 public:
  Conditions(Backend& backend, Scratch& scratch, const NextStepConfig& config, const Linear& image_out);

  // hidden: (R, H) f32, overwritten; tokens: the image token that each row is the condition of. Returns (R, W) f32 of the
  // scratch. Throws kInvalidArgument for a token outside the model's position table.
  TensorView embed(const TensorView& hidden, const std::vector<int32_t>& tokens, const FlowHead& head) const;

 private:
  Backend& backend_;
  Scratch& scratch_;
  const Linear& image_out_;
  Tensor position_table_;  // gen_pos_embed (G*G, H), where the config asks for it
};

}  // namespace ardiff
