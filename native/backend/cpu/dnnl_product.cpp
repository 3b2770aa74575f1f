#include "backend/cpu/dnnl_product.h"

namespace ardiff::cpu {

DnnlProduct::DnnlProduct(DnnlRuntime& runtime, const void* weight, DType dtype, int64_t in, int64_t out) {
  using dnnl::memory;
  const auto type = dtype == DType::kBF16 ? memory::data_type::bf16 : memory::data_type::f32;
  const memory::desc x({kRows, in}, type, memory::format_tag::ab);
  const memory::desc packed({in, out}, type, memory::format_tag::any);
  const memory::desc r({kRows, out}, memory::data_type::f32, memory::format_tag::ab);
  const dnnl::matmul::primitive_desc description({x, packed, r}, runtime.engine);
  const memory::desc plain({in, out}, type, memory::format_tag::ba);
  memory source(plain, runtime.engine, const_cast<void*>(weight));
  weight_ = memory(description.weights_desc(), runtime.engine);
  dnnl::reorder(source, weight_).execute(runtime.stream, source, weight_);
  runtime.stream.wait();
  x_ = memory(x, runtime.engine, nullptr);
  r_ = memory(r, runtime.engine, nullptr);
  product_ = dnnl::matmul(description);
}

void DnnlProduct::run(DnnlRuntime& runtime, const void* x, float* r) {
  x_.set_data_handle(const_cast<void*>(x));
  r_.set_data_handle(r);
  product_.execute(runtime.stream, {{DNNL_ARG_SRC, x_}, {DNNL_ARG_WEIGHTS, weight_}, {DNNL_ARG_DST, r_}});
  runtime.stream.wait();
}

}  // namespace ardiff::cpu
