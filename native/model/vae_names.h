// VAE tensor names in their two spellings: that of the released checkpoint (nextstep.md 10.4) and that of
// diffusers (10.5). The code speaks the first; this translates where a file has the second.
#pragma once

#include <string>

#include "io/checkpoint.h"
#include "model/model_config.h"
#include "model/weights.h"

namespace ardiff {

class VaeNames {
 public:
  VaeNames(const Checkpoint& checkpoint, const VaeConfig& config)
      : diffusers_(static_cast<bool>(checkpoint.find("decoder.mid_block.resnets.0.conv1.weight"))), levels_(config.levels()) {}

  // The stored name (without .weight / .bias) of a released name such as "decoder.up.2.block.0.conv1".
  std::string of(const std::string& released) const { return diffusers_ ? to_diffusers(released, levels_) : released; }

  static std::string to_diffusers(const std::string& released, size_t levels);

 private:
  bool diffusers_;
  size_t levels_;
};

}  // namespace ardiff
