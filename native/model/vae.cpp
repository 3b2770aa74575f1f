#include "model/vae.h"

#include <cmath>

#include "model/released_constants.h"
#include "model/vae_names.h"

namespace ardiff {

namespace {

constexpr int64_t kGroups = 32;

TensorView pixels_as_rows(const TensorView& x) { return x.reshape({x.shape[1] * x.shape[2], x.shape[3]}); }

}  // namespace

// Builds the halves from checkpoint names; the names themselves are VaeNames' business.
class Vae::Loader {
 public:
  Loader(Backend& backend, const Checkpoint& checkpoint, const VaeConfig& config)
      : backend_(backend), checkpoint_(checkpoint), config_(config), names_(checkpoint, config) {}

  Half decoder() const {
    const size_t n = config_.levels();
    const int64_t top = config_.channels(n - 1);
    Half half;
    if (config_.post_quant_conv) half.quant = conv("post_quant_conv", config_.latent_channels, config_.latent_channels, 1);
    half.in = conv("decoder.conv_in", config_.latent_channels, top, 3);
    half.middle = middle("decoder.mid.", top);
    int64_t channels = top;
    for (size_t level = n; level-- > 0;) {
      Level stage;
      const std::string p = "decoder.up." + std::to_string(level) + ".";
      for (int64_t b = 0; b <= config_.num_res_blocks; ++b) {
        stage.blocks.push_back(res_block(p + "block." + std::to_string(b) + ".", channels, config_.channels(level)));
        channels = config_.channels(level);
      }
      if (level != 0) stage.resample = conv(p + "upsample.conv", channels, channels, 3);
      half.levels.push_back(std::move(stage));
    }
    half.out_norm = norm("decoder.norm_out", channels);
    half.out = conv("decoder.conv_out", channels, config_.out_channels, 3);
    return half;
  }

  bool has_encoder() const { return has("encoder.conv_in"); }

  Half encoder() const {
    Half half;
    half.in = conv("encoder.conv_in", config_.in_channels, config_.base_channels, 3);
    int64_t channels = config_.base_channels;
    for (size_t level = 0; level < config_.levels(); ++level) {
      Level stage;
      const std::string p = "encoder.down." + std::to_string(level) + ".";
      for (int64_t b = 0; b < config_.num_res_blocks; ++b) {
        stage.blocks.push_back(res_block(p + "block." + std::to_string(b) + ".", channels, config_.channels(level)));
        channels = config_.channels(level);
        if (has(p + "attn." + std::to_string(b) + ".q")) stage.attention.push_back(attention(p + "attn." + std::to_string(b) + ".", channels));
      }
      check(stage.attention.empty() || stage.attention.size() == stage.blocks.size(), ErrorCode::kInvalidModel, checkpoint_.label(),
            ": level ", level, " of the encoder has attention after some of its blocks only");
      if (level + 1 < config_.levels()) stage.resample = conv(p + "downsample.conv", channels, channels, 3, ConvPadding::kDownsample);
      half.levels.push_back(std::move(stage));
    }
    half.middle = middle("encoder.mid.", channels);
    half.out_norm = norm("encoder.norm_out", channels);
    half.out = conv("encoder.conv_out", channels, 2 * config_.latent_channels, 3);
    if (has("quant_conv")) half.quant = conv("quant_conv", 2 * config_.latent_channels, 2 * config_.latent_channels, 1);
    return half;
  }

 private:
  bool has(const std::string& name) const { return static_cast<bool>(checkpoint_.find(names_.of(name) + ".weight")); }

  std::unique_ptr<Conv2d> conv(const std::string& name, int64_t in, int64_t out, int64_t kernel,
                               ConvPadding padding = ConvPadding::kSame) const {
    const std::string stored = names_.of(name);
    return backend_.prepare_conv2d(checkpoint_.require(stored + ".weight", {out, in, kernel, kernel}),
                                   checkpoint_.require(stored + ".bias", {out}), padding);
  }

  Norm norm(const std::string& name, int64_t channels) const {
    const std::string stored = names_.of(name);
    return {upload_f32(backend_, checkpoint_.require(stored + ".weight", {channels})),
            upload_f32(backend_, checkpoint_.require(stored + ".bias", {channels}))};
  }

  ResBlock res_block(const std::string& p, int64_t in, int64_t out) const {
    ResBlock block;
    block.norm1 = norm(p + "norm1", in);
    block.conv1 = conv(p + "conv1", in, out, 3);
    block.norm2 = norm(p + "norm2", out);
    block.conv2 = conv(p + "conv2", out, out, 3);
    if (in != out) block.shortcut = conv(p + "nin_shortcut", in, out, 1);
    return block;
  }

  // A 1x1 convolution (out, in, 1, 1), or the Linear (out, in) of the diffusers naming, as a linear over pixels.
  std::unique_ptr<Linear> pointwise(const std::string& name, int64_t channels) const {
    const std::string stored = names_.of(name);
    HostTensor weight = checkpoint_.find(stored + ".weight");
    check(static_cast<bool>(weight), ErrorCode::kInvalidModel, checkpoint_.label(), ": tensor '", stored, ".weight' is missing");
    weight = weight.shape.rank() == 2 ? checkpoint_.require(stored + ".weight", {channels, channels})
                                      : checkpoint_.require(stored + ".weight", {channels, channels, 1, 1});
    weight.shape = {channels, channels};
    const LinearPart only{weight, checkpoint_.require(stored + ".bias", {channels})};
    return backend_.prepare_picture_linear({&only, 1});
  }

  Attention attention(const std::string& p, int64_t channels) const {
    return {norm(p + "norm", channels), pointwise(p + "q", channels), pointwise(p + "k", channels), pointwise(p + "v", channels),
            pointwise(p + "proj_out", channels)};
  }

  Middle middle(const std::string& p, int64_t channels) const {
    Middle out;
    out.first = res_block(p + "block_1.", channels, channels);
    out.attention = attention(p + "attn_1.", channels);
    out.second = res_block(p + "block_2.", channels, channels);
    return out;
  }

  Backend& backend_;
  const Checkpoint& checkpoint_;
  const VaeConfig& config_;
  VaeNames names_;
};

Vae::Vae(Backend& backend, const Checkpoint& checkpoint, const VaeConfig& config) : backend_(backend), config_(config) {
  const Loader loader(backend, checkpoint, config_);
  decoder_ = loader.decoder();
  if (loader.has_encoder()) encoder_ = loader.encoder();
}

TensorView Vae::conv(const Conv2d& weight, const TensorView& x, Scratch& scratch) const {
  const int64_t stride = weight.padding == ConvPadding::kDownsample ? 2 : 1;
  const TensorView y = scratch.take(DType::kF32, {1, x.shape[1] / stride, x.shape[2] / stride, weight.out_channels});
  if (x.dtype == backend_.activation_dtype()) {
    backend_.conv2d(x, weight, y, Epilogue::store());
  } else {
    const Scratch::Frame frame(scratch);
    const TensorView narrow = scratch.take(backend_.activation_dtype(), x.shape);
    backend_.convert(x, narrow);
    backend_.conv2d(narrow, weight, y, Epilogue::store());
  }
  return y;
}

TensorView Vae::res_block(const ResBlock& block, const TensorView& x, Scratch& scratch) const {
  // out = shortcut(x) or x, to which conv2 adds its result: the residual sum is the convolution's epilogue.
  TensorView out;
  if (block.shortcut) {
    out = conv(*block.shortcut, x, scratch);
  } else {
    out = x;
  }
  const Scratch::Frame frame(scratch);
  const DType act = backend_.activation_dtype();
  const TensorView narrow = scratch.take(act, x.shape);
  const TensorView h = scratch.take(DType::kF32, out.shape);
  const TensorView h_narrow = scratch.take(act, out.shape);
  backend_.group_norm(x, block.norm1.weight, block.norm1.bias, kGroups, kNormEps, /*silu=*/true, narrow);
  backend_.conv2d(narrow, *block.conv1, h, Epilogue::store());
  backend_.group_norm(h, block.norm2.weight, block.norm2.bias, kGroups, kNormEps, /*silu=*/true, h_narrow);
  backend_.conv2d(h_narrow, *block.conv2, out, Epilogue::add());
  return out;
}

void Vae::attend(const Attention& attention, const TensorView& x, Scratch& scratch) const {
  const Scratch::Frame frame(scratch);
  const int64_t pixels = x.shape[1] * x.shape[2], channels = x.shape[3];
  const DType act = backend_.activation_dtype();
  const TensorView normed = scratch.take(act, x.shape);
  backend_.group_norm(x, attention.norm.weight, attention.norm.bias, kGroups, kNormEps, /*silu=*/false, normed);
  const TensorView q = scratch.take(DType::kF32, {pixels, channels});
  const TensorView k = scratch.take(DType::kF32, {pixels, channels});
  const TensorView v = scratch.take(DType::kF32, {pixels, channels});
  const TensorView out = scratch.take(act, {pixels, channels});
  backend_.linear(pixels_as_rows(normed), *attention.q, q, Epilogue::store());
  backend_.linear(pixels_as_rows(normed), *attention.k, k, Epilogue::store());
  backend_.linear(pixels_as_rows(normed), *attention.v, v, Epilogue::store());
  backend_.dense_attention(q, k, v, 1.0f / std::sqrt(static_cast<float>(channels)), out);
  backend_.linear(out, *attention.out, pixels_as_rows(x), Epilogue::add());
}

TensorView Vae::middle(const Middle& middle, const TensorView& x, Scratch& scratch) const {
  const TensorView h = res_block(middle.first, x, scratch);
  attend(middle.attention, h, scratch);
  return res_block(middle.second, h, scratch);
}

void Vae::finish(const Half& half, const TensorView& x, const TensorView& y, Scratch& scratch) const {
  const Scratch::Frame frame(scratch);
  const TensorView narrow = scratch.take(backend_.activation_dtype(), x.shape);
  backend_.group_norm(x, half.out_norm.weight, half.out_norm.bias, kGroups, kNormEps, /*silu=*/true, narrow);
  backend_.conv2d(narrow, *half.out, y, Epilogue::store());
}

void Vae::decode(const TensorView& z, const TensorView& pixels, Scratch& scratch) const {
  const Scratch::Frame frame(scratch);
  const TensorView latent = decoder_.quant ? conv(*decoder_.quant, z, scratch) : z;
  TensorView h = middle(decoder_.middle, conv(*decoder_.in, latent, scratch), scratch);
  for (const Level& level : decoder_.levels) {
    for (const ResBlock& block : level.blocks) h = res_block(block, h, scratch);
    if (level.resample) {
      const TensorView wide = scratch.take(DType::kF32, {1, 2 * h.shape[1], 2 * h.shape[2], h.shape[3]});
      backend_.upsample_conv2d(h, *level.resample, wide);
      h = wide;
    }
  }
  finish(decoder_, h, pixels, scratch);
}

void Vae::encode(const TensorView& pixels, const TensorView& mean, Scratch& scratch) const {
  check(encoder_.has_value(), ErrorCode::kInvalidModel, "this model's VAE has no encoder");
  const Scratch::Frame frame(scratch);
  TensorView h = conv(*encoder_->in, pixels, scratch);
  for (const Level& level : encoder_->levels) {
    for (size_t b = 0; b < level.blocks.size(); ++b) {
      h = res_block(level.blocks[b], h, scratch);
      if (!level.attention.empty()) attend(level.attention[b], h, scratch);
    }
    if (level.resample) h = conv(*level.resample, h, scratch);
  }
  h = middle(encoder_->middle, h, scratch);
  const int64_t z = config_.latent_channels, height = mean.shape[1], width = mean.shape[2];
  TensorView moments = scratch.take(DType::kF32, {1, height, width, 2 * z});
  finish(*encoder_, h, moments, scratch);
  if (encoder_->quant) moments = conv(*encoder_->quant, moments, scratch);
  // The first z channels are the mean; the log-variance is not used (deterministic in every release).
  const TensorView mean_rows = scratch.take(DType::kF32, {height * width, z});
  const TensorView moments_rows = pixels_as_rows(moments);
  const TensorView identity = scratch.take(DType::kI32, {height * width});
  std::vector<int32_t> rows(static_cast<size_t>(height * width));
  for (size_t i = 0; i < rows.size(); ++i) rows[i] = static_cast<int32_t>(i);
  backend_.upload(identity, rows.data());
  backend_.gather_rows(moments_rows.col_slice(0, z), identity, mean_rows);
  const TensorView raw = mean_rows.reshape({1, height, width, z});
  if (!config_.encoder_norm) {
    backend_.convert(raw, mean);
    return;
  }
  const int64_t p = config_.norm_patch;
  check(height % p == 0 && width % p == 0, ErrorCode::kInvalidArgument, "latent of ", height, " x ", width, " does not divide into patches of ", p);
  const TensorView patches = scratch.take(DType::kF32, {height / p * (width / p), z * p * p});
  backend_.patchify(raw, height / p, 1.0f, 0.0f, patches);
  backend_.layer_norm(patches, {}, {}, kNormEps, patches);
  backend_.unpatchify(patches, height / p, 1.0f, 0.0f, mean);
}

}  // namespace ardiff
