// Ops in a row (ops.h) whose product does what follows it beside the same ops one by one, both as graphs.
#include "cuda_bench.h"

namespace ardiff::bench {
namespace {

// Layers in turns, more than any level of cache holds, as one graph; seconds a layer.
template <typename Layer>
double per_layer(Context& c, int64_t layers, Layer&& layer) {
  const StretchOwner owner;
  return seconds(c.graphs, c.graphs_probe, [&] {
           c.graphs.run_stretch(StretchKey(owner), [&] {
             for (int64_t i = 0; i < layers; ++i) layer(i);
           });
         }) /
         static_cast<double>(layers);
}

void print(const char* what, int64_t rows, double apart, double together) {
  std::printf("| %s | %ld | %.2f | %.2f | %.2f |\n", what, rows, apart * 1e6, together * 1e6, apart / together);
}

}  // namespace

void together(Context& c) {
  std::printf("\n## Ops in a row, bf16, as graphs: op by op beside together\n\n| ops | rows | us | together: us | ratio |\n|---|---|---|---|---|\n");
  Backend& b = c.graphs;
  Weights weights(b);
  constexpr int64_t kHidden = 5120, kHeads = 40, kKvHeads = 8, kHeadDim = 128, kInner = 13824, kBlockTokens = 16;
  const auto layers_of = [&](int64_t in, int64_t out) {
    std::vector<std::unique_ptr<Linear>> layers;
    for (int64_t i = 0; i < std::max<int64_t>(1, (kColdBytes + 2 * in * out - 1) / (2 * in * out)); ++i) layers.push_back(weights.linear(in, out));
    return layers;
  };
  const auto qkv = layers_of(kHidden, (kHeads + 2 * kKvHeads) * kHeadDim), gate_up = layers_of(kHidden, 2 * kInner);
  const Tensor weight = weights.vector(kHidden);
  for (const int64_t rows : {1, 2, 4, 5, 8, 10, 16, 32}) {
    const Tensor x = b.make(DType::kF32, {rows, kHidden}), normed = b.make(DType::kBF16, {rows, kHidden});
    const Tensor wide = b.make(DType::kF32, {rows, 2 * kInner}), inner = b.make(DType::kBF16, {rows, kInner});
    const RowNorm rms = RowNorm::rms(weight, 1e-6f);

    const TensorView qkv_view(wide.view.data, DType::kF32, {rows, qkv[0]->out_features});
    const Tensor q = b.make(DType::kF32, {rows, kHeads * kHeadDim}), cos = b.make(DType::kF32, {rows, kHeadDim / 2}), sin = b.make(DType::kF32, {rows, kHeadDim / 2});
    const Shape cache{rows, kKvHeads, kBlockTokens, kHeadDim};
    const Tensor keys = b.make(DType::kBF16, cache), values = b.make(DType::kBF16, cache), slots = indices(b, counting(rows, kBlockTokens));
    const KvLayer kv{keys, values};
    print("14B: norm, q k v, rotation and store", rows, per_layer(c, static_cast<int64_t>(qkv.size()), [&](int64_t i) {
            b.rms_norm(x, weight, 1e-6f, normed);
            b.linear(normed, *qkv[static_cast<size_t>(i)], qkv_view, Epilogue::store());
            b.rope_store(qkv_view, cos, sin, slots, q, kv);
          }),
          per_layer(c, static_cast<int64_t>(qkv.size()), [&](int64_t i) {
            b.norm_linear_rope_store(x, rms, normed, *qkv[static_cast<size_t>(i)], qkv_view, cos, sin, slots, q, kv);
          }));
    print("14B: norm, gate and up, silu", rows, per_layer(c, static_cast<int64_t>(gate_up.size()), [&](int64_t i) {
            b.rms_norm(x, weight, 1e-6f, normed);
            b.linear(normed, *gate_up[static_cast<size_t>(i)], wide, Epilogue::store());
            b.silu_mul(wide, inner);
          }),
          per_layer(c, static_cast<int64_t>(gate_up.size()), [&](int64_t i) {
            b.norm_linear_silu_mul(x, rms, normed, *gate_up[static_cast<size_t>(i)], wide, inner);
          }));
  }
}

}  // namespace ardiff::bench
