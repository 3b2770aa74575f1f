// Dimensions of a TransDiff model, read from config.json (transdiff.md 1). Shapes of tensors are checked against these numbers.
#pragma once

#include <cstdint>
#include <filesystem>

#include "io/checkpoint.h"
#include "io/json_file.h"
#include "model/model_config.h"

namespace ardiff {

struct TransDiffConfig {
  bool multi_reference;        // MRAR: several passes, each sees the latents of those before
  int64_t width;               // D, of transformer and decoder
  int64_t num_heads;           // of both
  int64_t transformer_blocks;
  int64_t diffusion_blocks;
  int64_t num_classes;
  int64_t class_tokens;        // buffer_size: the class vector that many times
  int64_t latent_channels;     // C
  int64_t grid;                // latent pixels per side; every one is a token of the decoder
  int64_t num_passes;          // AR steps; 1 without references
  int64_t pass_tokens;         // condition tokens that a pass adds: a block of (grid / 2)² with references, all of them without
  bool bf16_time_projection;   // the reference's rounding before time_proj (transdiff.md 5.2)
  VaeConfig vae;

  int64_t head_dim() const { return width / num_heads; }
  int64_t latent_tokens() const { return grid * grid; }                        // N
  int64_t latent_size() const { return latent_tokens() * latent_channels; }
  int64_t condition_tokens() const { return num_passes * pass_tokens; }        // M of the last pass
  int64_t positions() const { return class_tokens + condition_tokens(); }      // of the transformer
  // Positions known before a pass (0 …): those that it is computed from, its own block included.
  int64_t positions_of_pass(int64_t pass) const { return class_tokens + (pass + 1) * pass_tokens; }
  // Positions of one KV block: a pass's tokens start and end with a block. The same numbers for class and image tokens
  // in all released models, (grid / 2)².
  int64_t block_tokens() const;
};

// True where config.json names this family; false where it names none or another.
bool is_transdiff(const ConfigReader& config);

// `checkpoint` says what the config does not: the condition tokens of a model without references, from its position table.
// Throws kInvalidModel naming file and key.
TransDiffConfig read_transdiff_config(const std::filesystem::path& model_directory, const Checkpoint& checkpoint);

}  // namespace ardiff
