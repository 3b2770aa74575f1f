#include "engine/probe.h"

#include "model/vae.h"

namespace ardiff {

namespace {

// (B, C, H, W) <-> (B, H, W, C): golden cases are channels first, the engine channels last.
std::vector<float> reorder(const std::vector<float>& in, int64_t b, int64_t c, int64_t pixels, bool to_channels_last) {
  std::vector<float> out(in.size());
  for (int64_t n = 0; n < b; ++n) {
    for (int64_t i = 0; i < c; ++i) {
      for (int64_t p = 0; p < pixels; ++p) {
        const auto first = static_cast<size_t>((n * c + i) * pixels + p), last = static_cast<size_t>((n * pixels + p) * c + i);
        if (to_channels_last) {
          out[last] = in[first];
        } else {
          out[first] = in[last];
        }
      }
    }
  }
  return out;
}

}  // namespace

TensorView upload_array(Backend& backend, Scratch& scratch, const HostArray& array, const char* name, const Shape& shape) {
  check(static_cast<int64_t>(array.data.size()) == shape.size(), ErrorCode::kInvalidArgument, name, " has ", array.data.size(),
        " numbers, expected shape ", shape.text());
  const TensorView view = scratch.take(DType::kF32, shape);
  backend.upload(view, array.data.data());
  return view;
}

HostArray download_array(Backend& backend, const TensorView& view, std::vector<int64_t> shape) {
  HostArray out{std::vector<float>(static_cast<size_t>(view.shape.size())), std::move(shape)};
  backend.download(view, out.data.data());
  return out;
}

HostArray probe_vae_decode(Backend& backend, Scratch& scratch, const Vae& vae, const HostArray& latent) {
  const int64_t b = probe_dim(latent, "latent", 0, 4), c = latent.shape[1], h = latent.shape[2], w = latent.shape[3], f = vae.config().factor();
  check(c == vae.config().latent_channels && b >= 1 && h >= 1 && w >= 1 && h <= 4096 && w <= 4096, ErrorCode::kInvalidArgument,
        "latent is not (B, ", vae.config().latent_channels, ", h, w)");
  check(static_cast<int64_t>(latent.data.size()) == b * c * h * w, ErrorCode::kInvalidArgument, "latent has ", latent.data.size(), " numbers");
  const std::vector<float> in = reorder(latent.data, b, c, h * w, true);
  HostArray out{{}, {b, 3, h * f, w * f}};
  for (int64_t i = 0; i < b; ++i) {
    scratch.reset();
    const TensorView z = scratch.take(DType::kF32, {1, h, w, c}), pixels = scratch.take(DType::kF32, {1, h * f, w * f, 3});
    backend.upload(z, in.data() + i * c * h * w);
    vae.decode(z, pixels, scratch);
    const HostArray image = download_array(backend, pixels, {});
    out.data.insert(out.data.end(), image.data.begin(), image.data.end());
  }
  out.data = reorder(out.data, b, 3, h * f * w * f, false);
  return out;
}

HostArray probe_vae_encode(Backend& backend, Scratch& scratch, const Vae& vae, const HostArray& pixels) {
  const int64_t b = probe_dim(pixels, "pixels", 0, 4), h = pixels.shape[2], w = pixels.shape[3], f = vae.config().factor(), c = vae.config().latent_channels;
  check(pixels.shape[1] == 3 && b >= 1 && h >= f && w >= f && h <= 16384 && w <= 16384 && h % f == 0 && w % f == 0, ErrorCode::kInvalidArgument,
        "pixels are not (B, 3, H, W) with sides divisible by ", f);
  check(static_cast<int64_t>(pixels.data.size()) == b * 3 * h * w, ErrorCode::kInvalidArgument, "pixels has ", pixels.data.size(), " numbers");
  const std::vector<float> in = reorder(pixels.data, b, 3, h * w, true);
  HostArray out{{}, {b, c, h / f, w / f}};
  for (int64_t i = 0; i < b; ++i) {
    scratch.reset();
    const TensorView x = scratch.take(DType::kF32, {1, h, w, 3}), mean = scratch.take(DType::kF32, {1, h / f, w / f, c});
    backend.upload(x, in.data() + i * 3 * h * w);
    vae.encode(x, mean, scratch);
    const HostArray one = download_array(backend, mean, {});
    out.data.insert(out.data.end(), one.data.begin(), one.data.end());
  }
  out.data = reorder(out.data, b, c, h / f * (w / f), false);
  return out;
}

}  // namespace ardiff
