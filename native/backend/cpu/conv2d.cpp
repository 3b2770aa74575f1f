// Convolutions through oneDNN, one image at a time: a picture's bytes do not depend on its batch.
#include <map>
#include <tuple>
#include <typeinfo>
#include <vector>

#include "backend/cpu/cpu_backend.h"
#include "backend/cpu/dnnl_runtime.h"
#include "backend/cpu/thread_pool.h"
#include "backend/cpu/view_data.h"
#include "backend/op_checks.h"

namespace ardiff {

using namespace cpu;

namespace {

using dnnl::memory;

// One spatial size: its primitive and the weights as that primitive wants them.
struct SizedConvolution {
  dnnl::convolution_forward convolution;
  memory::desc x, y;
  memory weight;
};

struct CpuConv2d final : Conv2d {
  using Conv2d::Conv2d;
  DType dtype = DType::kF32;
  std::vector<float> bias;
  memory plain_weight;                  // (out, in, k, k) f32
  std::vector<memory> packed_weights;   // one per layout that some size asked for
  std::map<std::tuple<int64_t, int64_t, bool>, SizedConvolution> by_size;  // height, width, adds
};

memory packed_weight(CpuConv2d& w, const memory::desc& wanted, DnnlRuntime& runtime) {
  for (const memory& packed : w.packed_weights) {
    if (packed.get_desc() == wanted) return packed;
  }
  memory packed(wanted, runtime.engine);
  dnnl::reorder(w.plain_weight, packed).execute(runtime.stream, w.plain_weight, packed);
  runtime.stream.wait();
  w.packed_weights.push_back(packed);
  return packed;
}

SizedConvolution make_sized(CpuConv2d& w, int64_t height, int64_t width, bool adds, DnnlRuntime& runtime) {
  const bool down = w.padding == ConvPadding::kDownsample;
  const int64_t k = w.kernel_size;
  const int64_t before = down ? 0 : (k - 1) / 2;
  const int64_t after = down ? 1 : before;
  const int64_t stride = down ? 2 : 1;
  const auto type = w.dtype == DType::kBF16 ? memory::data_type::bf16 : memory::data_type::f32;
  SizedConvolution sized;
  sized.x = memory::desc({1, w.in_channels, height, width}, type, memory::format_tag::nhwc);
  sized.y = memory::desc({1, w.out_channels, down ? (height - 2) / 2 + 1 : height, down ? (width - 2) / 2 + 1 : width},
                         memory::data_type::f32, memory::format_tag::nhwc);
  const memory::desc weight({w.out_channels, w.in_channels, k, k}, type, memory::format_tag::any);
  const memory::desc bias({w.out_channels}, memory::data_type::f32, memory::format_tag::a);
  dnnl::primitive_attr attributes;
  if (adds) {
    dnnl::post_ops sum;
    sum.append_sum(1.0f);
    attributes.set_post_ops(sum);
  }
  const dnnl::convolution_forward::primitive_desc description(
      {dnnl::prop_kind::forward_inference, dnnl::algorithm::convolution_direct, sized.x, weight, bias, sized.y, {stride, stride},
       {before, before}, {after, after}},
      attributes, runtime.engine);
  sized.weight = packed_weight(w, description.weights_desc(), runtime);
  sized.convolution = dnnl::convolution_forward(description);
  return sized;
}

}  // namespace

std::unique_ptr<Conv2d> CpuBackend::prepare_conv2d(const HostTensor& weight, const HostTensor& bias, ConvPadding padding) {
  op_checks::prepare_conv2d(weight, bias, padding);
  const Shape& s = weight.shape;
  auto prepared = std::make_unique<CpuConv2d>(s[1], s[0], s[2], padding);
  prepared->dtype = info_.dtype;
  prepared->bias.resize(static_cast<size_t>(s[0]));
  read_f32(bias, 0, s[0], prepared->bias.data());
  with_dnnl(threads(), "prepare_conv2d", [&] {
    prepared->plain_weight = memory({{s[0], s[1], s[2], s[3]}, memory::data_type::f32, memory::format_tag::oihw}, dnnl_->engine);
    read_f32(weight, 0, s.size(), static_cast<float*>(prepared->plain_weight.get_data_handle()));
  });
  return prepared;
}

void CpuBackend::conv2d(const TensorView& x, const Conv2d& w, const TensorView& y, const Epilogue& epilogue) {
  op_checks::conv2d(x, w, y, epilogue);
  check(typeid(w) == typeid(CpuConv2d), ErrorCode::kInternal, "conv2d: weights of another backend");
  // The weights' cache of primitives is the backend's to fill: weights are made by and bound to one backend.
  auto& prepared = const_cast<CpuConv2d&>(static_cast<const CpuConv2d&>(w));
  check(prepared.dtype == info_.dtype, ErrorCode::kInternal, "conv2d: weights of another backend");
  if (x.shape.size() == 0) return;
  const int64_t pixels_in = x.shape[1] * x.shape[2] * x.shape[3];
  const int64_t pixels_out = y.shape[1] * y.shape[2] * y.shape[3];
  with_dnnl(threads(), "conv2d", [&] {
    const bool adds = epilogue.kind == Epilogue::Kind::kAdd;
    auto found = prepared.by_size.find({x.shape[1], x.shape[2], adds});
    if (found == prepared.by_size.end()) {
      found = prepared.by_size.emplace(std::tuple(x.shape[1], x.shape[2], adds), make_sized(prepared, x.shape[1], x.shape[2], adds, *dnnl_)).first;
    }
    SizedConvolution& sized = found->second;
    const memory bias({{w.out_channels}, memory::data_type::f32, memory::format_tag::a}, dnnl_->engine, prepared.bias.data());
    for (int64_t image = 0; image < x.shape[0]; ++image) {
      const TensorView one(x.data + static_cast<size_t>(image * pixels_in) * dtype_size(x.dtype), x.dtype,
                           {x.shape[1] * x.shape[2], x.shape[3]});
      const void* input = product_input(one, one.cols()).first;
      const memory from(sized.x, dnnl_->engine, const_cast<void*>(input));
      const memory to(sized.y, dnnl_->engine, floats(y) + image * pixels_out);
      sized.convolution.execute(dnnl_->stream,
                                {{DNNL_ARG_SRC, from}, {DNNL_ARG_WEIGHTS, sized.weight}, {DNNL_ARG_BIAS, bias}, {DNNL_ARG_DST, to}});
      dnnl_->stream.wait();
    }
  });
}

}  // namespace ardiff
