// Ops in a row, one by one: what they are on every backend that does not make them itself.
#include "backend/ops.h"

namespace ardiff {

void Ops::row_norm(const TensorView& x, const RowNorm& norm, const TensorView& y) {
  switch (norm.kind) {
    case RowNorm::Kind::kRms: return rms_norm(x, norm.weight, norm.eps, y);
    case RowNorm::Kind::kLayer: return layer_norm(x, norm.weight, norm.bias, norm.eps, y);
    case RowNorm::Kind::kModulated: break;
  }
  ada_layer_norm(x, norm.weight, norm.bias, norm.eps, norm.shift, norm.scale, norm.modulation_rows, y);
}

void Ops::norm_linear(const TensorView& x, const RowNorm& norm, const TensorView& normed, const Linear& w, const TensorView& y,
                      const Epilogue& epilogue) {
  row_norm(x, norm, normed);
  linear(normed, w, y, epilogue);
}

void Ops::norm_linear_rope_store(const TensorView& x, const RowNorm& norm, const TensorView& normed, const Linear& w, const TensorView& qkv,
                                 const TensorView& cos, const TensorView& sin, const TensorView& slots, const TensorView& q, const KvLayer& kv) {
  norm_linear(x, norm, normed, w, qkv, Epilogue::store());
  rope_store(qkv, cos, sin, slots, q, kv);
}

void Ops::norm_linear_silu_mul(const TensorView& x, const RowNorm& norm, const TensorView& normed, const Linear& w, const TensorView& gate_up,
                               const TensorView& y) {
  norm_linear(x, norm, normed, w, gate_up, Epilogue::store());
  silu_mul(gate_up, y);
}

void Ops::linear_gather(const TensorView& x, const Linear& w, const TensorView& projected, const TensorView& index, const TensorView& y) {
  linear(x, w, projected, Epilogue::store());
  gather_rows(projected, index, y);
}

}  // namespace ardiff
