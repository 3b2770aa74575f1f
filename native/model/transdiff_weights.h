// Checkpoint tensor names of TransDiff (transdiff.md 3.1) bound to prepared weights of one backend.
#pragma once

#include <memory>
#include <vector>

#include "backend/backend.h"
#include "io/checkpoint.h"
#include "model/transdiff_config.h"

namespace ardiff {

struct LayerNormWeights {
  Tensor weight, bias;  // (D)
};

struct MlpWeights {
  std::unique_ptr<Linear> in;   // D -> 4 D
  std::unique_ptr<Linear> out;  // 4 D -> D
};

struct TransformerBlockWeights {
  LayerNormWeights attention_norm, mlp_norm;
  std::unique_ptr<Linear> qkv;  // D -> 3 D, stacked q | k | v
  std::unique_ptr<Linear> out;  // D -> D
  MlpWeights mlp;
};

struct ClassTransformerWeights {
  // Rows that stand for themselves: the classes, the null class behind them, then the mask tokens (one of a model without
  // references, else one per token of a pass).
  Tensor contents;                          // (classes + 1 + masks, D)
  int64_t num_masks = 0;
  Tensor positions;                         // (class tokens + condition tokens, D)
  std::unique_ptr<Linear> reference_in;     // 4 C -> D; null without references
  LayerNormWeights input_norm, output_norm;
  std::vector<TransformerBlockWeights> blocks;
  Tensor output_positions;                  // (condition tokens, D)
};

struct DiffusionBlockWeights {
  std::vector<float> modulation;            // (6 D) added to the time's: shift, scale, gate of attention, then of the MLP
  LayerNormWeights self_norm, cross_norm, mlp_norm;
  std::unique_ptr<Linear> qkv;              // D -> 3 D
  std::unique_ptr<Linear> self_out;         // D -> D
  std::unique_ptr<Linear> cross_q;          // D -> D
  std::unique_ptr<Linear> cross_kv;         // D -> 2 D, stacked k | v
  std::unique_ptr<Linear> cross_out;        // D -> D
  MlpWeights mlp;
};

struct DiffusionDecoderWeights {
  Tensor positions;                         // (N, D)
  std::unique_ptr<Linear> time_in;          // 256 -> D
  std::unique_ptr<Linear> time_out;         // D -> D
  std::unique_ptr<Linear> time_modulation;  // D -> 6 D
  // Of a few-step decoder: the embedding of a jump's length, like that of the time; null in the model's own.
  std::unique_ptr<Linear> interval_in;      // 256 -> D
  std::unique_ptr<Linear> interval_out;     // D -> D
  std::unique_ptr<Linear> condition;        // D -> D
  std::unique_ptr<Linear> input;            // C -> D
  std::vector<DiffusionBlockWeights> blocks;
  std::vector<float> final_modulation;      // (2 D) shift, scale
  std::unique_ptr<Linear> output;           // D -> C
};

// Throw kInvalidModel for a tensor that is missing, of another shape, or one block too many.
ClassTransformerWeights load_class_transformer(Backend& backend, const Checkpoint& checkpoint, const TransDiffConfig& config);
DiffusionDecoderWeights load_diffusion_decoder(Backend& backend, const Checkpoint& checkpoint, const TransDiffConfig& config);
// few_step.safetensors of an accelerator: the same names, and the interval's. Its blocks are counted, everything else is the model's.
DiffusionDecoderWeights load_few_step_decoder(Backend& backend, const Checkpoint& checkpoint, const TransDiffConfig& config);
TransDiffConfig few_step_config(const Checkpoint& checkpoint, const TransDiffConfig& model);

}  // namespace ardiff
