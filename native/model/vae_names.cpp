#include "model/vae_names.h"

#include <charconv>

namespace ardiff {

namespace {

bool starts_with(const std::string& text, const std::string& prefix) { return text.rfind(prefix, 0) == 0; }

void replace(std::string& text, const std::string& from, const std::string& to) {
  const size_t at = text.find(from);
  if (at != std::string::npos) text.replace(at, from.size(), to);
}

// "up.2.block.…" -> level 2 and "block.…".
std::pair<size_t, std::string> split_level(const std::string& text, size_t prefix) {
  size_t level = 0;
  const auto [end, error] = std::from_chars(text.data() + prefix, text.data() + text.size(), level);
  check(error == std::errc() && *end == '.', ErrorCode::kInternal, "no level in VAE name ", text);
  return {level, std::string(end + 1)};
}

}  // namespace

std::string VaeNames::to_diffusers(const std::string& released, size_t levels) {
  const size_t dot = released.find('.');
  const std::string half = released.substr(0, dot + 1);
  std::string rest = released.substr(dot + 1);
  if (starts_with(rest, "down.")) {
    const auto [level, tail] = split_level(rest, 5);
    rest = "down_blocks." + std::to_string(level) + "." + tail;
    replace(rest, ".block.", ".resnets.");
    replace(rest, ".downsample.conv", ".downsamplers.0.conv");
  } else if (starts_with(rest, "up.")) {
    const auto [level, tail] = split_level(rest, 3);
    rest = "up_blocks." + std::to_string(levels - 1 - level) + "." + tail;
    replace(rest, ".block.", ".resnets.");
    replace(rest, ".upsample.conv", ".upsamplers.0.conv");
  } else if (starts_with(rest, "mid.")) {
    replace(rest, "mid.block_1", "mid_block.resnets.0");
    replace(rest, "mid.block_2", "mid_block.resnets.1");
    replace(rest, "mid.attn_1.norm", "mid_block.attentions.0.group_norm");
    replace(rest, "mid.attn_1.proj_out", "mid_block.attentions.0.to_out.0");
    for (const char* name : {"q", "k", "v"}) {
      if (rest == std::string("mid.attn_1.") + name) rest = std::string("mid_block.attentions.0.to_") + name;
    }
  } else if (rest == "norm_out") {
    rest = "conv_norm_out";
  }
  replace(rest, "nin_shortcut", "conv_shortcut");
  return half + rest;
}

}  // namespace ardiff
