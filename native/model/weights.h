// Checkpoint tensor names (nextstep.md 3, 10.4, 10.5) bound to prepared weights of one backend.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "io/checkpoint.h"
#include "model/model_config.h"

namespace ardiff {

struct BackboneLayerWeights {
  Tensor input_norm;                 // (H)
  std::unique_ptr<Linear> qkv;       // H -> (nh + 2 nkv) d, stacked q | k | v
  std::unique_ptr<Linear> out;       // nh d -> H
  Tensor post_norm;                  // (H)
  std::unique_ptr<Linear> gate_up;   // H -> 2 I, stacked gate | up
  std::unique_ptr<Linear> down;      // I -> H
};

struct BackboneWeights {
  Tensor embed_tokens;               // (V, H), dtype as stored
  std::vector<BackboneLayerWeights> layers;
  Tensor norm;                       // (H)
  std::unique_ptr<Linear> image_in;  // D -> H
  std::unique_ptr<Linear> image_out; // H -> H
};

struct FlowHeadBlockWeights {
  Tensor norm_weight, norm_bias;     // (W)
  std::unique_ptr<Linear> up;        // W -> R
  std::unique_ptr<Linear> down;      // R -> W
};

struct FlowHeadWeights {
  int64_t width = 0;                    // W
  int64_t token_size = 0;               // D
  std::unique_ptr<Linear> time_in;      // 256 -> W
  std::unique_ptr<Linear> time_out;     // W -> W
  std::unique_ptr<Linear> condition;    // H -> W
  std::unique_ptr<Linear> input;        // D -> W
  // All adaLN layers in one: block j's shift | scale | gate at columns 3 W j, the final layer's shift | scale last.
  std::unique_ptr<Linear> modulation;   // W -> 3 W blocks + 2 W
  std::vector<FlowHeadBlockWeights> blocks;
  std::unique_ptr<Linear> output;       // W -> D
  // Of a few-step head: the embedding of a jump's length, like that of the time; null in others.
  std::unique_ptr<Linear> interval_in;  // 256 -> W
  std::unique_ptr<Linear> interval_out; // W -> W
};

// The draft model of an accelerator (docs/speculation.md): Llama blocks between a fused input and a residual output.
struct DraftWeights {
  Tensor feature_norm, token_norm;      // (H)
  std::unique_ptr<Linear> fuse;         // 2 H -> H
  BackboneWeights blocks;               // layers and norm only
  std::unique_ptr<Linear> out;          // H -> H
  Tensor mask_token;                    // (1, H) stands for the embedding of a token not drawn yet
};

BackboneWeights load_backbone(Backend& backend, const Checkpoint& checkpoint, const NextStepConfig& config);
FlowHeadWeights load_flow_head(Backend& backend, const Checkpoint& checkpoint, const NextStepConfig& config);
// The head at prefix ("image_head.net.", "head.net."), its width and blocks read from the tensors themselves.
FlowHeadWeights load_accelerator_head(Backend& backend, const Checkpoint& checkpoint, const std::string& prefix, const NextStepConfig& config);
DraftWeights load_draft(Backend& backend, const Checkpoint& checkpoint, const NextStepConfig& config);

// The host tensor as float32 on the backend.
Tensor upload_f32(Backend& backend, const HostTensor& tensor);

}  // namespace ardiff
