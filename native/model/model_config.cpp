#include "model/model_config.h"

#include "base/error.h"
#include "io/json_file.h"

namespace ardiff {

namespace {

// Upper bounds keep products of dimensions far from overflow; they lie well above every released model.
constexpr int64_t kMaxWidth = 1 << 20;
constexpr int64_t kMaxVocabulary = 1 << 24;

BackboneConfig read_backbone(const ConfigReader& config) {
  BackboneConfig out{};
  out.hidden_size = config.integer({"hidden_size"}, 1, kMaxWidth);
  out.intermediate_size = config.integer({"intermediate_size"}, 1, kMaxWidth);
  out.num_layers = config.integer({"num_hidden_layers"}, 1, 1024);
  out.num_heads = config.integer({"num_attention_heads"}, 1, 4096);
  out.num_kv_heads = config.integer_or({"num_key_value_heads"}, out.num_heads, 1, 4096);
  check(out.num_heads % out.num_kv_heads == 0, ErrorCode::kInvalidModel, config.label(), ": num_attention_heads ", out.num_heads,
        " is not a multiple of num_key_value_heads ", out.num_kv_heads);
  if (!config.has({"head_dim"})) {
    check(out.hidden_size % out.num_heads == 0, ErrorCode::kInvalidModel, config.label(), ": no head_dim and hidden_size ", out.hidden_size,
          " is not a multiple of num_attention_heads ", out.num_heads);
  }
  out.head_dim = config.integer_or({"head_dim"}, out.hidden_size / out.num_heads, 2, 4096);
  check(out.head_dim % 2 == 0, ErrorCode::kInvalidModel, config.label(), ": head_dim ", out.head_dim, " is odd");
  out.vocab_size = config.integer({"vocab_size"}, 1, kMaxVocabulary);
  out.max_positions = config.integer_or({"max_position_embeddings"}, 131072, 1, 1 << 24);
  out.rms_norm_eps = static_cast<float>(config.number_or({"rms_norm_eps"}, 1e-5));
  out.rope_theta = static_cast<float>(config.number_or({"rope_theta"}, 1e6));
  check(out.rms_norm_eps > 0 && out.rope_theta > 1, ErrorCode::kInvalidModel, config.label(), ": rms_norm_eps must be > 0 and rope_theta > 1");
  check(!config.has({"rope_scaling"}), ErrorCode::kInvalidModel, config.label(), ": rope_scaling is not supported");
  check(!config.boolean_or({"use_2d_rope"}, false), ErrorCode::kInvalidModel, config.label(), ": use_2d_rope is not supported");
  const std::string activation = config.text_or({"hidden_act"}, "silu");
  check(activation == "silu", ErrorCode::kInvalidModel, config.label(), ": hidden_act '", activation, "' is not supported");
  return out;
}

ImageConfig read_image(const ConfigReader& config, int64_t vocab_size) {
  ImageConfig out{};
  out.latent_channels = config.integer_or({"latent_channels", "num_channels"}, 16, 1, 4096);
  out.latent_patch_size = config.integer_or({"latent_patch_size", "patch_size"}, 2, 1, 64);
  out.boi_token_id = config.integer_or({"boi"}, 151667, 0, vocab_size - 1);
  out.image_placeholder_id = config.integer_or({"image_placeholder_id"}, 151669, 0, vocab_size - 1);
  out.use_gen_pos_embed = config.boolean_or({"use_gen_pos_embed"}, false);
  out.base_image_grid = config.integer_or({"base_image_grid_size"}, 32, 1, 4096);
  return out;
}

}  // namespace

NextStepConfig read_nextstep_config(const std::filesystem::path& model_directory) {
  const nlohmann::json parsed = read_json_file(model_directory / "config.json");
  const ConfigReader config(parsed, "config.json");
  const std::string type = config.text_or({"model_type"}, "nextstep");
  check(type == "nextstep", ErrorCode::kInvalidModel, "config.json: model_type '", type, "' is not supported");
  NextStepConfig out{};
  out.backbone = read_backbone(config);
  out.head.width = config.integer_or({"fm_head_dim", "genloss_width"}, 1536, 1, kMaxWidth);
  out.head.num_blocks = config.integer_or({"fm_head_layers", "genloss_depth"}, 12, 1, 1024);
  out.image = read_image(config, out.backbone.vocab_size);
  // The released value is "vae/"; an absolute or climbing path from a config is not followed.
  const std::filesystem::path vae = config.text_or({"vae_name_or_path"}, "vae/");
  check(vae.is_relative() && vae.lexically_normal().native().rfind("..", 0) != 0, ErrorCode::kInvalidModel, "config.json: vae_name_or_path '",
        vae.string(), "' leaves the model folder");
  out.vae_directory = model_directory / vae;
  return out;
}

VaeConfig read_vae_config(const std::filesystem::path& vae_directory) {
  const nlohmann::json parsed = read_json_file(vae_directory / "config.json");
  const ConfigReader config(parsed, "vae/config.json");
  VaeConfig out{};
  out.in_channels = config.integer_or({"in_channels"}, 3, 3, 3);
  out.out_channels = config.integer_or({"out_ch", "out_channels"}, 3, 3, 3);
  out.base_channels = config.integer_or({"ch"}, 128, 32, 8192);
  out.channel_multipliers = config.integers_or({"ch_mult"}, {1, 2, 4, 4}, 1, 64);
  check(out.channel_multipliers.size() <= 8, ErrorCode::kInvalidModel, config.label(), ": ch_mult has ", out.channel_multipliers.size(), " levels");
  check(out.base_channels % 32 == 0, ErrorCode::kInvalidModel, config.label(), ": ch = ", out.base_channels,
        " is not a multiple of GroupNorm's 32 groups");
  out.num_res_blocks = config.integer_or({"num_res_blocks"}, 2, 1, 64);
  out.latent_channels = config.integer_or({"z_channels", "latent_channels"}, 16, 1, 4096);
  // 1 / 0 are the released values; the class defaults of the public code (FLUX's) are not (nextstep.md 16.7).
  out.scaling_factor = static_cast<float>(config.number_or({"scaling_factor"}, 1.0));
  out.shift_factor = static_cast<float>(config.number_or({"shift_factor"}, 0.0));
  check(out.scaling_factor != 0.0f, ErrorCode::kInvalidModel, config.label(), ": scaling_factor is 0");
  const std::string norm = config.text_or({"norm_fn"}, "");
  out.encoder_norm = config.boolean_or({"encoder_norm"}, norm.empty() || norm == "layer_norm");
  out.norm_patch = config.integer_or({"psz"}, 1, 1, 64);
  return out;
}

}  // namespace ardiff
