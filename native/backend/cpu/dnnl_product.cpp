#include "backend/cpu/dnnl_product.h"

#include <algorithm>

namespace ardiff::cpu {
namespace {

using dnnl::memory;

// Large enough that a call's fixed cost does not show, small enough that there are several to share out.
constexpr int64_t kShardBytes = 256 * 1024;
constexpr int64_t kColumnGrain = 64;

int64_t columns_per_shard(int64_t in, int64_t out, int64_t element) {
  const int64_t wanted = kShardBytes / (in * element) / kColumnGrain * kColumnGrain;
  return std::clamp(wanted, kColumnGrain, std::max(out, kColumnGrain));
}

}  // namespace

DnnlProduct::DnnlProduct(DnnlRuntime& runtime, const void* weight, DType dtype, int64_t in, int64_t out)
    : columns_(columns_per_shard(in, out, static_cast<int64_t>(dtype_size(dtype)))) {
  const auto type = dtype == DType::kBF16 ? memory::data_type::bf16 : memory::data_type::f32;
  // The library's own scratchpad belongs to the thread that made the primitive; these run anywhere.
  dnnl::primitive_attr attributes;
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  for (int64_t column = 0; column < out; column += columns_) {
    const int64_t width = std::min(columns_, out - column);
    const memory::desc x({kRows, in}, type, memory::format_tag::ab);
    const memory::desc r({kRows, width}, memory::data_type::f32, memory::format_tag::ab);
    const dnnl::matmul::primitive_desc description({x, memory::desc({in, width}, type, memory::format_tag::any), r}, attributes, runtime.engine);
    auto* rows = static_cast<std::byte*>(const_cast<void*>(weight)) + static_cast<size_t>(column * in) * dtype_size(dtype);
    memory plain({{in, width}, type, memory::format_tag::ba}, runtime.engine, rows);
    Shard shard{width,
                dnnl::matmul(description),
                memory(x, runtime.engine, nullptr),
                memory(description.weights_desc(), runtime.engine),
                memory(r, runtime.engine, nullptr),
                memory(description.scratchpad_desc(), runtime.engine),
                dnnl::stream(runtime.engine)};
    dnnl::reorder(plain, shard.weight).execute(shard.stream, plain, shard.weight);
    shard.stream.wait();
    shards_.push_back(std::move(shard));
  }
}

void DnnlProduct::run(int64_t index, const void* x, float* r) {
  Shard& shard = shards_[static_cast<size_t>(index)];
  shard.x.set_data_handle(const_cast<void*>(x));
  shard.r.set_data_handle(r);
  shard.product.execute(shard.stream, {{DNNL_ARG_SRC, shard.x}, {DNNL_ARG_WEIGHTS, shard.weight}, {DNNL_ARG_DST, shard.r}, {DNNL_ARG_SCRATCHPAD, shard.scratchpad}});
  shard.stream.wait();
}

}  // namespace ardiff::cpu
