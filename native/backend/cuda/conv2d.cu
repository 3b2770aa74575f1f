// Convolutions as matrix products over taps and channels (product.cuh). Weights are kept as (out, taps, in): float32, or bf16 with
// `in` padded to what the tensor core kernel takes at a time; in pieces for the kernel of compute capability 9.0a.
#include <algorithm>
#include <typeinfo>
#include <vector>

#include "backend/cuda/cuda_backend.h"
#include "backend/cuda/device.h"
#include "backend/cuda/product.cuh"
#include "backend/cuda/product_wide.h"
#include "backend/host_memory.h"
#include "backend/op_checks.h"

namespace ardiff {

using namespace cuda;

namespace {


constexpr int kChannelPiece = 8;  // bf16 of one 16-byte copy: pixels of bf16 pictures are padded to whole ones

struct CudaConv2d final : Conv2d {
  using Conv2d::Conv2d;
  Tensor weight;  // (out, taps, tap_depth), or as product_wide.h says
  bool in_pieces = false;
  Tensor bias;    // (out) f32
  int64_t tap_depth = 0;
};

// y[m][0 ... padded) = x[m][0 ... channels) in T, then zeros; pixels without gaps.
template <typename T, typename From>
__global__ void pack_pixels(const From* x, int64_t pixels, int channels, int padded, T* y) {
  for (int64_t i = first_item(); i < pixels * padded; i += item_step()) {
    const int64_t m = i / padded;
    const int c = static_cast<int>(i % padded);
    y[i] = from_float<T>(c < channels ? to_float(x[m * channels + c]) : 0.0f);
  }
}

}  // namespace

std::unique_ptr<Conv2d> CudaBackend::prepare_conv2d(const HostTensor& weight, const HostTensor& bias, ConvPadding padding) {
  op_checks::prepare_conv2d(weight, bias, padding);
  const int64_t out = weight.shape[0], in = weight.shape[1], taps = weight.shape[2] * weight.shape[3];
  auto prepared = std::make_unique<CudaConv2d>(in, out, weight.shape[2], padding);
  prepared->tap_depth = bf16() ? round_up(in, kProductDepth) : in;
  std::vector<float> plain(static_cast<size_t>(weight.shape.size()));
  read_f32(weight, 0, weight.shape.size(), plain.data());
  prepared->in_pieces = wide_.multiprocessors > 0 && takes_pieces(out, prepared->tap_depth);
  const auto place = [&](int64_t o, int64_t depth) {
    return static_cast<size_t>(prepared->in_pieces ? piece_place(out, o, depth) : o * taps * prepared->tap_depth + depth);
  };
  std::vector<float> ordered(static_cast<size_t>(out * taps * prepared->tap_depth), 0.0f);
  for (int64_t o = 0; o < out; ++o) {
    for (int64_t tap = 0; tap < taps; ++tap) {
      for (int64_t i = 0; i < in; ++i) {
        ordered[place(o, tap * prepared->tap_depth + i)] = plain[static_cast<size_t>((o * in + i) * taps + tap)];
      }
    }
  }
  prepared->weight = make(info_.dtype, {out, taps, prepared->tap_depth});
  if (bf16()) {
    std::vector<bf16_t> rounded(ordered.size());
    std::transform(ordered.begin(), ordered.end(), rounded.begin(), f32_to_bf16);
    upload(prepared->weight, rounded.data());
  } else {
    upload(prepared->weight, ordered.data());
  }
  std::vector<float> biases(static_cast<size_t>(out));
  read_f32(bias, 0, out, biases.data());
  prepared->bias = make(DType::kF32, {out});
  upload(prepared->bias, biases.data());
  return prepared;
}

// The picture in the products' dtype, pixels padded to whole pieces: x itself or a copy in the workspace.
TensorView CudaBackend::product_picture(const TensorView& x) {
  const Shape& s = x.shape;
  const int64_t pixels = s[0] * s[1] * s[2], padded = bf16() ? round_up(s[3], kChannelPiece) : s[3];
  if (x.dtype == info_.dtype && padded == s[3]) return x;
  check(bf16(), ErrorCode::kInternal, "conv2d: expected a picture in F32, got ", dtype_name(x.dtype));
  const TensorView y(activations_.get<bf16_t>(pixels * padded), info_.dtype, {s[0], s[1], s[2], padded});
  visit_element(x.dtype, [&](auto type) {
    using From = decltype(type);
    pack_pixels<<<blocks_for(pixels * padded), kBlock, 0, stream_>>>(elements<From>(x), pixels, static_cast<int>(s[3]), static_cast<int>(padded),
                                                                       elements<cuda::bf16>(y));
  });
  check_launch("conv2d");
  return y;
}

void CudaBackend::convolve(const TensorView& x, const Conv2d& w, const TensorView& y, bool doubled, bool adds) {
  check(typeid(w) == typeid(CudaConv2d), ErrorCode::kInternal, "conv2d: weights of another backend");
  if (y.shape.size() == 0) return;
  const auto& prepared = static_cast<const CudaConv2d&>(w);
  const TensorView picture = product_picture(x);
  const bool down = w.padding == ConvPadding::kDownsample;
  Product p{};
  p.a = picture.data;
  p.shape.height = static_cast<int>(x.shape[1]);
  p.shape.width = static_cast<int>(x.shape[2]);
  p.shape.out_height = static_cast<int>(y.shape[1]);
  p.shape.out_width = static_cast<int>(y.shape[2]);
  p.shape.kernel = static_cast<int>(w.kernel_size);
  p.shape.stride = down ? 2 : 1;
  p.shape.pad = down ? 0 : static_cast<int>((w.kernel_size - 1) / 2);
  p.shape.doubling = doubled ? 1 : 0;
  p.shape.channels = picture.shape[3];
  p.rows = y.shape[0] * y.shape[1] * y.shape[2];
  p.depth = static_cast<int>(picture.shape[3]);
  p.b = prepared.weight.view.data;
  p.b_stride = w.kernel_size * w.kernel_size * prepared.tap_depth;
  p.b_in_pieces = prepared.in_pieces;
  p.tap_depth = static_cast<int>(prepared.tap_depth);
  p.columns = static_cast<int>(w.out_channels);
  p.bias = floats(prepared.bias);
  p.y = y.data;
  p.y_stride = w.out_channels;
  p.adds = adds;
  p.wide_multiprocessors = wide_.multiprocessors;
  check(!p.b_in_pieces || takes_wide_product(p), ErrorCode::kInternal, "conv2d: at most ", kWideSide, " x ", kWideSide, " pixels a picture and ",
        kWideRows, " in all, got ", x.shape.text());
  if (bf16()) {
    multiply<cuda::bf16>(p, stream_);
  } else {
    multiply<float>(p, stream_);
  }
  check_launch("conv2d");
}

void CudaBackend::conv2d(const TensorView& x, const Conv2d& w, const TensorView& y, const Epilogue& epilogue) {
  op_checks::conv2d(x, w, y, epilogue);
  convolve(x, w, y, /*doubled=*/false, epilogue.kind == Epilogue::Kind::kAdd);
}

void CudaBackend::upsample_conv2d(const TensorView& x, const Conv2d& w, const TensorView& y) {
  op_checks::upsample_conv2d(x, w, y);
  convolve(x, w, y, /*doubled=*/true, /*adds=*/false);
}

}  // namespace ardiff
