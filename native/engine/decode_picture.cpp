#include "engine/decode_picture.h"

namespace ardiff {

DecodedImage decode_picture(Backend& backend, Scratch& scratch, const Vae& vae, const TensorView& tokens, int64_t grid_height, int64_t patch) {
  const VaeConfig& config = vae.config();
  const int64_t grid_width = tokens.rows() / grid_height;
  const TensorView z = scratch.take(DType::kF32, {1, grid_height * patch, grid_width * patch, config.latent_channels});
  backend.unpatchify(tokens, grid_height, config.scaling_factor, config.shift_factor, z);
  DecodedImage image;
  image.height = grid_height * patch * config.factor();
  image.width = grid_width * patch * config.factor();
  const TensorView pixels = scratch.take(DType::kF32, {1, image.height, image.width, 3});
  const TensorView rgb = scratch.take(DType::kU8, {1, image.height, image.width, 3});
  vae.decode(z, pixels, scratch);
  backend.to_rgb8(pixels, rgb);
  image.rgb.resize(static_cast<size_t>(image.height * image.width * 3));
  backend.download(rgb, image.rgb.data());
  return image;
}

}  // namespace ardiff
