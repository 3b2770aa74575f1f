// The convolutional autoencoder (nextstep.md 10; KL-16: transdiff.md 7): latents <-> pictures. Channels last, one image at a time, so
// that a picture's bytes cannot depend on who shares the batch.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "io/checkpoint.h"
#include "model/model_config.h"
#include "backend/scratch.h"

namespace ardiff {

class Vae {
 public:
  // The decoder is required, the encoder is loaded where the file has one.
  Vae(Backend& backend, const Checkpoint& checkpoint, const VaeConfig& config);

  const VaeConfig& config() const { return config_; }
  bool has_encoder() const { return encoder_.has_value(); }

  // z: (1, h, w, C) f32 -> pixels (1, h f, w f, 3) f32 in about [-1, 1].
  void decode(const TensorView& z, const TensorView& pixels, Scratch& scratch) const;
  // pixels: (1, H, W, 3) f32, sides multiples of the factor -> posterior mean (1, H/f, W/f, C) f32, normalised
  // where the config says so. Throws kInvalidModel without an encoder.
  void encode(const TensorView& pixels, const TensorView& mean, Scratch& scratch) const;

 private:
  struct Norm {
    Tensor weight, bias;
  };
  struct ResBlock {
    Norm norm1, norm2;
    std::unique_ptr<Conv2d> conv1, conv2, shortcut;  // shortcut is null where channels stay
  };
  struct Attention {
    Norm norm;
    std::unique_ptr<Linear> q, k, v, out;
  };
  struct Middle {
    ResBlock first, second;
    Attention attention;
  };
  struct Level {
    std::vector<ResBlock> blocks;
    std::vector<Attention> attention;  // after each block, of KL-16's encoder at its lowest resolution; empty elsewhere
    std::unique_ptr<Conv2d> resample;  // null at the level without one
  };
  struct Half {
    std::unique_ptr<Conv2d> in, out;
    std::unique_ptr<Conv2d> quant;  // 1x1 before a decoder, after an encoder; null in families without
    Middle middle;
    std::vector<Level> levels;  // in execution order
    Norm out_norm;
  };
  class Loader;

  // Each takes and returns the residual stream (1, H, W, C) f32; results live in `scratch`.
  TensorView res_block(const ResBlock& block, const TensorView& x, Scratch& scratch) const;
  void attend(const Attention& attention, const TensorView& x, Scratch& scratch) const;
  TensorView middle(const Middle& middle, const TensorView& x, Scratch& scratch) const;
  TensorView conv(const Conv2d& weight, const TensorView& x, Scratch& scratch) const;
  void finish(const Half& half, const TensorView& x, const TensorView& y, Scratch& scratch) const;

  Backend& backend_;
  VaeConfig config_;
  Half decoder_;
  std::optional<Half> encoder_;
};

}  // namespace ardiff
