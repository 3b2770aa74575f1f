// Dimensions of a NextStep model, read from config.json and vae/config.json (nextstep.md 2), and of any family's VAE.
// Both spellings of the released keys are accepted; shapes of tensors are checked against these numbers.
#pragma once

#include <cstdint>
#include <filesystem>
#include <vector>

namespace ardiff {

struct BackboneConfig {
  int64_t hidden_size;        // H
  int64_t intermediate_size;  // I, width of the SwiGLU
  int64_t num_layers;
  int64_t num_heads;          // query heads
  int64_t num_kv_heads;       // divides num_heads
  int64_t head_dim;           // d; num_heads * d need not equal H
  int64_t vocab_size;         // V
  int64_t max_positions;
  float rms_norm_eps;
  float rope_theta;
};

struct FlowHeadConfig {
  int64_t width;       // W
  int64_t num_blocks;  // residual blocks
};

struct ImageConfig {
  int64_t latent_channels;    // C
  int64_t latent_patch_size;  // p
  int64_t token_size() const { return latent_channels * latent_patch_size * latent_patch_size; }  // D
  int64_t boi_token_id;
  int64_t image_placeholder_id;
  bool use_gen_pos_embed;      // adds a fixed table to the hidden state (nextstep.md 6.4); off in all releases
  int64_t base_image_grid;     // grid of that table
};

struct NextStepConfig {
  BackboneConfig backbone;
  FlowHeadConfig head;
  ImageConfig image;
  std::filesystem::path vae_directory;
};

struct VaeConfig {
  int64_t in_channels;
  int64_t out_channels;
  int64_t base_channels;                   // ch
  std::vector<int64_t> channel_multipliers;  // ch_mult, highest resolution first
  int64_t num_res_blocks;
  int64_t latent_channels;                 // z
  float scaling_factor;
  float shift_factor;
  bool encoder_norm;                       // layer-normalise the posterior mean ...
  int64_t norm_patch;                      // ... over patches of this size (psz); 1 = per latent pixel
  bool post_quant_conv = false;            // a 1x1 convolution before the decoder (KL-16)
  int64_t channels(size_t level) const { return base_channels * channel_multipliers[level]; }
  size_t levels() const { return channel_multipliers.size(); }
  int64_t factor() const { return int64_t{1} << (levels() - 1); }  // pixels per latent side
};

// Throw kInvalidModel naming file and key.
NextStepConfig read_nextstep_config(const std::filesystem::path& model_directory);
VaeConfig read_vae_config(const std::filesystem::path& vae_directory);

}  // namespace ardiff
