#include <vector>

#include "backend/host_memory.h"
#include "backend/op_checks.h"
#include "backend/reference/elements.h"
#include "backend/reference/reference_backend.h"

namespace ardiff {
namespace {

// weight is kept as (k, k, in, out), so that the inner loop runs over outputs.
struct ReferenceConv2d final : Conv2d {
  using Conv2d::Conv2d;
  std::vector<float> weight;
  std::vector<float> bias;
};

}  // namespace

std::unique_ptr<Conv2d> ReferenceBackend::prepare_conv2d(const HostTensor& weight, const HostTensor& bias, ConvPadding padding) {
  op_checks::prepare_conv2d(weight, bias, padding);
  const int64_t out = weight.shape[0];
  const int64_t in = weight.shape[1];
  const int64_t taps = weight.shape[2] * weight.shape[3];
  auto prepared = std::make_unique<ReferenceConv2d>(in, out, weight.shape[2], padding);
  std::vector<float> plain(static_cast<size_t>(weight.shape.size()));
  read_f32(weight, 0, weight.shape.size(), plain.data());
  prepared->weight.resize(plain.size());
  prepared->bias.resize(static_cast<size_t>(out));
  read_f32(bias, 0, out, prepared->bias.data());
  for (int64_t o = 0; o < out; ++o) {
    for (int64_t i = 0; i < in; ++i) {
      for (int64_t tap = 0; tap < taps; ++tap) {
        prepared->weight[static_cast<size_t>((tap * in + i) * out + o)] = plain[static_cast<size_t>((o * in + i) * taps + tap)];
      }
    }
  }
  return prepared;
}

void ReferenceBackend::conv2d(const TensorView& x, const Conv2d& w, const TensorView& y, const Epilogue& epilogue) {
  op_checks::conv2d(x, w, y, epilogue);
  const auto& prepared = dynamic_cast<const ReferenceConv2d&>(w);
  const int64_t stride = w.padding == ConvPadding::kDownsample ? 2 : 1;
  const int64_t pad = w.padding == ConvPadding::kDownsample ? 0 : (w.kernel_size - 1) / 2;
  const int64_t height = x.shape[1], width = x.shape[2], in = w.in_channels, out = w.out_channels;
  std::vector<float> r(static_cast<size_t>(out));
  for (int64_t image = 0; image < y.shape[0]; ++image) {
    for (int64_t i = 0; i < y.shape[1]; ++i) {
      for (int64_t j = 0; j < y.shape[2]; ++j) {
        std::fill(r.begin(), r.end(), 0.0f);
        for (int64_t a = 0; a < w.kernel_size; ++a) {
          for (int64_t b = 0; b < w.kernel_size; ++b) {
            const int64_t row = i * stride + a - pad;
            const int64_t column = j * stride + b - pad;
            if (row < 0 || row >= height || column < 0 || column >= width) continue;
            for (int64_t c = 0; c < in; ++c) {
              const float value = reference::load(x, ((image * height + row) * width + column) * in + c);
              const float* weights = prepared.weight.data() + ((a * w.kernel_size + b) * in + c) * out;
              for (int64_t o = 0; o < out; ++o) r[static_cast<size_t>(o)] += value * weights[o];
            }
          }
        }
        for (int64_t o = 0; o < out; ++o) {
          const int64_t at = ((image * y.shape[1] + i) * y.shape[2] + j) * out + o;
          const float result = r[static_cast<size_t>(o)] + prepared.bias[static_cast<size_t>(o)];
          reference::store(y, at, epilogue.kind == Epilogue::Kind::kAdd ? reference::load(y, at) + result : result);
        }
      }
    }
  }
}

void ReferenceBackend::upsample_conv2d(const TensorView& x, const Conv2d& w, const TensorView& y) {
  op_checks::upsample_conv2d(x, w, y);
  const int64_t height = y.shape[1], width = y.shape[2], channels = w.in_channels;
  std::vector<float> doubled(static_cast<size_t>(y.shape[0] * height * width * channels));
  float* to = doubled.data();
  for (int64_t row = 0; row < y.shape[0] * height; ++row) {
    for (int64_t column = 0; column < width; ++column) {
      const int64_t from = (row / 2 * (width / 2) + column / 2) * channels;  // height is even: row / 2 stays in the image
      for (int64_t c = 0; c < channels; ++c) *to++ = reference::load(x, from + c);
    }
  }
  conv2d(TensorView(doubled.data(), DType::kF32, {y.shape[0], height, width, channels}), w, y, Epilogue::store());
}

}  // namespace ardiff
