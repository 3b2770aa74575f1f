#include "model/transdiff_config.h"

#include <numeric>

namespace ardiff {

namespace {

constexpr const char* kPlain = "transdiff";
constexpr const char* kMultiReference = "transdiff-mrar";

VaeConfig read_vae(const ConfigReader& config) {
  VaeConfig out{};
  out.in_channels = out.out_channels = 3;
  out.base_channels = config.integer_or({"vae_ch"}, 128, 32, 8192);
  check(out.base_channels % 32 == 0, ErrorCode::kInvalidModel, config.label(), ": vae_ch = ", out.base_channels,
        " is not a multiple of GroupNorm's 32 groups");
  out.channel_multipliers = config.integers_or({"vae_ch_mult"}, {1, 1, 2, 2, 4}, 1, 64);
  check(!out.channel_multipliers.empty() && out.channel_multipliers.size() <= 8, ErrorCode::kInvalidModel, config.label(), ": vae_ch_mult has ",
        out.channel_multipliers.size(), " levels");
  out.num_res_blocks = config.integer_or({"vae_num_res_blocks"}, 2, 1, 64);
  out.latent_channels = config.integer_or({"vae_channels"}, 16, 1, 4096);
  out.scaling_factor = static_cast<float>(config.number_or({"vae_scale"}, 0.2325));
  check(out.scaling_factor > 0.0f, ErrorCode::kInvalidModel, config.label(), ": vae_scale must be > 0");
  out.norm_patch = 1;
  out.post_quant_conv = true;
  return out;
}

}  // namespace

int64_t TransDiffConfig::block_tokens() const { return std::gcd(class_tokens, pass_tokens); }

bool is_transdiff(const ConfigReader& config) {
  const std::string architecture = config.text_or({"architecture"}, "");
  return architecture == kPlain || architecture == kMultiReference;
}

TransDiffConfig read_transdiff_config(const std::filesystem::path& model_directory, const Checkpoint& checkpoint) {
  const nlohmann::json parsed = read_json_file(model_directory / "config.json");
  const ConfigReader config(parsed, "config.json");
  const std::string architecture = config.text_or({"architecture"}, "");
  check(is_transdiff(config), ErrorCode::kInvalidModel, "config.json: architecture '", architecture, "' is not one of ", kPlain, ", ", kMultiReference);
  TransDiffConfig out{};
  out.multi_reference = architecture == kMultiReference;
  out.width = config.integer({"width"}, 1, 1 << 16);
  out.num_heads = config.integer({"num_heads"}, 1, 4096);
  check(out.width % out.num_heads == 0, ErrorCode::kInvalidModel, config.label(), ": width ", out.width, " is not a multiple of num_heads ", out.num_heads);
  out.transformer_blocks = config.integer({"transformer_blocks"}, 1, 1024);
  out.diffusion_blocks = config.integer({"diffusion_blocks"}, 1, 1024);
  out.num_classes = config.integer({"num_classes"}, 1, 1 << 20);
  out.class_tokens = config.integer_or({"buffer_size"}, 64, 1, 4096);
  out.bf16_time_projection = config.boolean_or({"bf16_rounding_before_time_proj"}, true);
  out.vae = read_vae(config);
  out.latent_channels = out.vae.latent_channels;
  const int64_t image_size = config.integer({"image_size"}, 1, 16384), factor = out.vae.factor();
  check(image_size % factor == 0 && image_size / factor <= 256, ErrorCode::kInvalidModel, config.label(), ": image_size ", image_size,
        " is not a multiple of the VAE's ", factor, ", or more than 256 of them");
  out.grid = image_size / factor;
  if (out.multi_reference) {
    check(out.grid % 2 == 0, ErrorCode::kInvalidModel, config.label(), ": a grid of ", out.grid, " latent pixels has no 2x2 patches");
    out.num_passes = config.integer_or({"ar_steps"}, 4, 1, 64);
    out.pass_tokens = out.grid / 2 * (out.grid / 2);
    return out;
  }
  const HostTensor table = checkpoint.find("diffusion_pos_embed_learned");
  check(table && table.shape.rank() == 3 && table.shape[1] >= 1 && table.shape[1] <= (1 << 16), ErrorCode::kInvalidModel, checkpoint.label(),
        ": tensor 'diffusion_pos_embed_learned' is missing or not [1, M, D]");
  out.num_passes = 1;
  out.pass_tokens = table.shape[1];
  return out;
}

}  // namespace ardiff
