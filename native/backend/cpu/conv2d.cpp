// Convolutions: by Winograd's algorithm where it suits (winograd.h), else through oneDNN in strips of rows that the
// thread pool shares out:
//
//   rows of x   0 1 2 3 4 5 ...        a strip of output rows reads its own rows and those its kernel reaches;
//   strip 0    [0 1 2 3]4              the picture's padding belongs to the first and last strip
//   strip 1          3[4 5 6 7]8
//
// How a picture is cut depends on its height alone, so its bytes depend neither on its batch nor on threads.
#include <algorithm>
#include <atomic>
#include <map>
#include <tuple>
#include <typeinfo>
#include <vector>

#include "backend/cpu/cpu_backend.h"
#include "backend/cpu/dnnl_runtime.h"
#include "backend/cpu/view_data.h"
#include "backend/cpu/winograd.h"
#include "backend/host_memory.h"
#include "backend/op_checks.h"

namespace ardiff {

using namespace cpu;

namespace {

using dnnl::memory;

// Enough strips for many threads, but not so thin that the rows read twice show.
constexpr int64_t kStripsPerPicture = 16;
constexpr int64_t kMinStripRows = 4;

// Multiply-adds worth sharing out: a few microseconds.
constexpr int64_t kOperationsPerChunk = 200000;
constexpr int64_t kMostChunks = 4096;

struct Strip {
  int64_t y_begin, y_rows;
  int64_t x_begin, x_rows;
  int64_t pad_top, pad_bottom;
};

// One shape of strip: its primitive, and the weights as that primitive wants them.
struct StripPrimitive {
  dnnl::convolution_forward convolution;
  memory::desc x, y, scratchpad;
  memory weight;
};

// rows, width, top and bottom padding, adds to y
using StripShape = std::tuple<int64_t, int64_t, int64_t, int64_t, bool>;

struct CpuConv2d final : Conv2d {
  using Conv2d::Conv2d;
  DType dtype = DType::kF32;
  std::vector<float> bias;
  std::unique_ptr<Winograd> winograd;  // if set, nothing below is used
  memory plain_weight;                 // (out, in, k, k) f32
  std::vector<memory> packed_weights;  // one per layout that some strip asked for
  std::map<StripShape, StripPrimitive> primitives;

  int64_t stride() const { return padding == ConvPadding::kDownsample ? 2 : 1; }
  int64_t pad_before() const { return padding == ConvPadding::kDownsample ? 0 : (kernel_size - 1) / 2; }
  int64_t pad_after() const { return padding == ConvPadding::kDownsample ? 1 : pad_before(); }
};

std::vector<Strip> cut(const CpuConv2d& w, int64_t x_height, int64_t y_height) {
  const int64_t rows = std::max(kMinStripRows, (y_height + kStripsPerPicture - 1) / kStripsPerPicture);
  std::vector<Strip> out;
  for (int64_t begin = 0; begin < y_height; begin += rows) {
    Strip strip{begin, std::min(rows, y_height - begin), 0, 0, 0, 0};
    const int64_t first = begin * w.stride() - w.pad_before();
    const int64_t last = (begin + strip.y_rows - 1) * w.stride() - w.pad_before() + w.kernel_size;  // one past
    strip.x_begin = std::max<int64_t>(first, 0);
    strip.x_rows = std::min(last, x_height) - strip.x_begin;
    strip.pad_top = strip.x_begin - first;
    strip.pad_bottom = std::max<int64_t>(last - x_height, 0);
    out.push_back(strip);
  }
  return out;
}

memory packed_weight(CpuConv2d& w, const memory::desc& wanted, DnnlRuntime& runtime) {
  for (const memory& packed : w.packed_weights) {
    if (packed.get_desc() == wanted) return packed;
  }
  memory packed(wanted, runtime.engine);
  dnnl::stream stream(runtime.engine);
  dnnl::reorder(w.plain_weight, packed).execute(stream, w.plain_weight, packed);
  stream.wait();
  w.packed_weights.push_back(packed);
  return packed;
}

StripPrimitive make_primitive(CpuConv2d& w, const Strip& strip, int64_t x_width, int64_t y_width, bool adds, DnnlRuntime& runtime) {
  const auto type = w.dtype == DType::kBF16 ? memory::data_type::bf16 : memory::data_type::f32;
  const int64_t k = w.kernel_size;
  StripPrimitive out;
  out.x = memory::desc({1, w.in_channels, strip.x_rows, x_width}, type, memory::format_tag::nhwc);
  out.y = memory::desc({1, w.out_channels, strip.y_rows, y_width}, memory::data_type::f32, memory::format_tag::nhwc);
  const memory::desc weight({w.out_channels, w.in_channels, k, k}, type, memory::format_tag::any);
  const memory::desc bias({w.out_channels}, memory::data_type::f32, memory::format_tag::a);
  dnnl::primitive_attr attributes;
  // The library's own scratchpad belongs to the thread that made the primitive; this one runs anywhere.
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  if (adds) {
    dnnl::post_ops sum;
    sum.append_sum(1.0f);
    attributes.set_post_ops(sum);
  }
  const dnnl::convolution_forward::primitive_desc description(
      {dnnl::prop_kind::forward_inference, dnnl::algorithm::convolution_direct, out.x, weight, bias, out.y, {w.stride(), w.stride()},
       {strip.pad_top, w.pad_before()}, {strip.pad_bottom, w.pad_after()}},
      attributes, runtime.engine);
  out.scratchpad = description.scratchpad_desc();
  out.weight = packed_weight(w, description.weights_desc(), runtime);
  out.convolution = dnnl::convolution_forward(description);
  return out;
}

}  // namespace

std::unique_ptr<Conv2d> CpuBackend::prepare_conv2d(const HostTensor& weight, const HostTensor& bias, ConvPadding padding) {
  op_checks::prepare_conv2d(weight, bias, padding);
  const Shape& s = weight.shape;
  auto prepared = std::make_unique<CpuConv2d>(s[1], s[0], s[2], padding);
  prepared->dtype = info_.dtype;
  prepared->bias.resize(static_cast<size_t>(s[0]));
  read_f32(bias, 0, s[0], prepared->bias.data());
  // Where there is AMX, multiplications are cheap and oneDNN's direct convolutions make them on its tiles.
  if (bf16() && !dnnl_products_ && Winograd::suits(*kernels_, s, padding)) {
    std::vector<float> values(static_cast<size_t>(s.size()));
    read_f32(weight, 0, s.size(), values.data());
    prepared->winograd = std::make_unique<Winograd>(*kernels_, values.data(), prepared->bias.data(), s[0], s[1]);
    return prepared;
  }
  with_dnnl("prepare_conv2d", [&] {
    prepared->plain_weight = memory({{s[0], s[1], s[2], s[3]}, memory::data_type::f32, memory::format_tag::oihw}, dnnl_->engine);
    read_f32(weight, 0, s.size(), static_cast<float*>(prepared->plain_weight.get_data_handle()));
  });
  return prepared;
}

void CpuBackend::conv2d(const TensorView& x, const Conv2d& w, const TensorView& y, const Epilogue& epilogue) {
  op_checks::conv2d(x, w, y, epilogue);
  check(typeid(w) == typeid(CpuConv2d), ErrorCode::kInternal, "conv2d: weights of another backend");
  // The cache of primitives is the backend's to fill: weights are made by and bound to one backend, one thread.
  auto& prepared = const_cast<CpuConv2d&>(static_cast<const CpuConv2d&>(w));
  check(prepared.dtype == info_.dtype, ErrorCode::kInternal, "conv2d: weights of another backend");
  if (y.shape.size() == 0) return;
  const int64_t images = x.shape[0];
  const TensorView pixels(x.data, x.dtype, {images * x.shape[1] * x.shape[2], x.shape[3]});
  const auto* input = static_cast<const std::byte*>(product_input(pixels, x.shape[3]).first);
  if (prepared.winograd) {
    prepared.winograd->run(pool_, sums_, reinterpret_cast<const bf16_t*>(input), images, x.shape[1], x.shape[2], /*upsampled=*/false,
                           epilogue.kind == Epilogue::Kind::kAdd, floats(y));
    return;
  }
  const size_t x_row = static_cast<size_t>(x.shape[2] * x.shape[3]) * dtype_size(info_.dtype);
  const int64_t y_row = y.shape[2] * y.shape[3];

  const std::vector<Strip> strips = cut(prepared, x.shape[1], y.shape[1]);
  std::vector<StripPrimitive*> primitives;
  size_t scratchpad_size = 0;
  with_dnnl("conv2d", [&] {
    const bool adds = epilogue.kind == Epilogue::Kind::kAdd;
    for (const Strip& strip : strips) {
      const StripShape shape{strip.x_rows, x.shape[2], strip.pad_top, strip.pad_bottom, adds};
      auto found = prepared.primitives.find(shape);
      if (found == prepared.primitives.end()) {
        found = prepared.primitives.emplace(shape, make_primitive(prepared, strip, x.shape[2], y.shape[2], adds, *dnnl_)).first;
      }
      primitives.push_back(&found->second);
      scratchpad_size = std::max(scratchpad_size, found->second.scratchpad.get_size());
    }
  });

  const auto strip_count = static_cast<int64_t>(strips.size());
  const auto scratchpad_stride = static_cast<int64_t>((scratchpad_size + 63) / 64 * 64);
  auto* scratchpads = sums_.get<std::byte>(scratchpad_stride * threads());
  std::atomic<bool> failed{false};
  auto run_strip = [&](int64_t image, size_t index, int worker) {
    const Strip& strip = strips[index];
    const StripPrimitive& primitive = *primitives[index];
    const std::byte* from = input + static_cast<size_t>(image * x.shape[1] + strip.x_begin) * x_row;
    float* to = floats(y) + (image * y.shape[1] + strip.y_begin) * y_row;
    dnnl::stream stream(dnnl_->engine);
    const memory::desc bias({w.out_channels}, memory::data_type::f32, memory::format_tag::a);
    primitive.convolution.execute(stream, {{DNNL_ARG_SRC, memory(primitive.x, dnnl_->engine, const_cast<std::byte*>(from))},
                                           {DNNL_ARG_WEIGHTS, primitive.weight},
                                           {DNNL_ARG_BIAS, memory(bias, dnnl_->engine, prepared.bias.data())},
                                           {DNNL_ARG_DST, memory(primitive.y, dnnl_->engine, to)},
                                           {DNNL_ARG_SCRATCHPAD, memory(primitive.scratchpad, dnnl_->engine, scratchpads + worker * scratchpad_stride)}});
    stream.wait();
  };
  // A strip is worth a thread of its own except in the smallest pictures.
  const int64_t operations = images * y.shape[1] * y_row * w.in_channels * w.kernel_size * w.kernel_size;
  const int64_t chunks = std::clamp<int64_t>(operations / kOperationsPerChunk, 1, std::min<int64_t>(images * strip_count, kMostChunks));
  pool_.run(chunks, [&](int64_t chunk, int worker) {
    const int64_t items = images * strip_count;
    for (int64_t item = items * chunk / chunks; item < items * (chunk + 1) / chunks && !failed; ++item) {
      if (!try_dnnl([&] { run_strip(item / strip_count, static_cast<size_t>(item % strip_count), worker); })) failed = true;
    }
  });
  check(!failed, ErrorCode::kInternal, "conv2d: oneDNN failed on ", x.shape.text());
}

void CpuBackend::upsample_conv2d(const TensorView& x, const Conv2d& w, const TensorView& y) {
  op_checks::upsample_conv2d(x, w, y);
  check(typeid(w) == typeid(CpuConv2d), ErrorCode::kInternal, "upsample_conv2d: weights of another backend");
  const Shape& s = x.shape;
  const auto& prepared = static_cast<const CpuConv2d&>(w);
  if (prepared.winograd && y.shape.size() > 0) {
    const TensorView pixels(x.data, x.dtype, {s[0] * s[1] * s[2], s[3]});
    const void* input = product_input(pixels, s[3]).first;
    prepared.winograd->run(pool_, sums_, static_cast<const bf16_t*>(input), s[0], s[1], s[2], /*upsampled=*/true, /*adds=*/false, floats(y));
    return;
  }
  const Shape doubled{s[0], 2 * s[1], 2 * s[2], s[3]};
  const TensorView wide(doubled_.get<std::byte>(doubled.size() * static_cast<int64_t>(dtype_size(info_.dtype))), info_.dtype, doubled);
  upsample(x, wide);
  conv2d(wide, w, y, Epilogue::store());
}

}  // namespace ardiff
