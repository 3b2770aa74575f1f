// Ops in a row around a product in bf16: what follows it is in its kernel, of few rows (linear_few.cu) as of many (linear_wide.cu). All else
// is op by op.
#include "backend/cuda/cuda_backend.h"
#include "backend/cuda/linear_few.cuh"
#include "backend/cuda/linear_layer.cuh"
#include "backend/cuda/weight_layout.cuh"
#include "backend/op_checks.h"

namespace ardiff {

using namespace cuda;

namespace {

// For own kernels: cuBLASLt's layers are its own whatever the rows, and lie otherwise.
bool are_few(const TensorView& x, const Linear& w) {
  return x.rows() > 0 && x.rows() <= kFewRows && dynamic_cast<const CudaLinear&>(w).algorithms == nullptr;
}

}  // namespace

// Products whose kernel does what follows: those of few rows, and wide ones whose rows are there all at once.
bool CudaBackend::takes_pairs(const TensorView& x, const Linear& w) const {
  const auto& layer = dynamic_cast<const CudaLinear&>(w);
  return are_few(x, w) || (takes_wide(x.rows(), layer) && round_up(x.rows(), kMostTileRows) * layer.depth * 2 <= limits_.product_sums);
}

void CudaBackend::launch_pairs(const FewRowsTask& task) {
  if (task.product.rows <= kFewRows) {
    launch_few_rows(task, stream_);
  } else {
    launch_linear_wide(task.product, task.after, wide_, limits_.product_sums, workspace_, stream_);
  }
}

void CudaBackend::set_normed_rows(FewRowsTask& task, const TensorView& x, const RowNorm& norm, const TensorView& normed) {
  row_norm(x, norm, normed);
  set_bf16_input(task.product, normed, task.product.depth);
}

void CudaBackend::norm_linear_rope_store(const TensorView& x, const RowNorm& norm, const TensorView& normed, const Linear& w, const TensorView& qkv,
                                         const TensorView& cos, const TensorView& sin, const TensorView& slots, const TensorView& q,
                                         const KvLayer& kv) {
  // A pair of features must lie in two tiles of the same block.
  const int64_t half = cos.cols();
  if (!bf16() || !takes_pairs(x, w) || half % kTileFeatures != 0) return Backend::norm_linear_rope_store(x, norm, normed, w, qkv, cos, sin, slots, q, kv);
  op_checks::linear(normed, w, qkv, Epilogue::store());
  op_checks::rope_store(qkv, cos, sin, slots, q, kv);
  FewRowsTask task{};
  task.product = linear_task(dynamic_cast<const CudaLinear&>(w), x.rows(), {}, Epilogue::store());
  task.after = {ProductAfter::Kind::kRopeStore, {static_cast<int>(half / kTileFeatures)}, rope_store_task(cos, sin, slots, q, kv)};
  set_normed_rows(task, x, norm, normed);
  launch_pairs(task);
}

void CudaBackend::norm_linear_silu_mul(const TensorView& x, const RowNorm& norm, const TensorView& normed, const Linear& w, const TensorView& gate_up,
                                       const TensorView& y) {
  if (!bf16() || !takes_pairs(x, w) || y.cols() % kTileFeatures != 0) return Backend::norm_linear_silu_mul(x, norm, normed, w, gate_up, y);
  op_checks::linear(normed, w, gate_up, Epilogue::store());
  op_checks::silu_mul(gate_up, y);
  FewRowsTask task{};
  task.product = linear_task(dynamic_cast<const CudaLinear&>(w), x.rows(), y, Epilogue::store());
  task.after.kind = ProductAfter::Kind::kSiluMul;
  task.after.pairs = {static_cast<int>(y.cols() / kTileFeatures)};
  set_normed_rows(task, x, norm, normed);
  launch_pairs(task);
}

// Each row of y from its row of x: what is gathered is the input, which has the same bits wherever it stands.
void CudaBackend::linear_gather(const TensorView& x, const Linear& w, const TensorView& projected, const TensorView& index, const TensorView& y) {
  const auto& layer = dynamic_cast<const CudaLinear&>(w);
  if (!bf16() || !are_few(y, w) || x.dtype != DType::kF32 || !own_rows_fit(y.rows(), layer.depth)) return Backend::linear_gather(x, w, projected, index, y);
  op_checks::linear(x, w, projected, Epilogue::store());
  op_checks::gather_rows(projected, index, y);
  FewRowsTask task{};
  task.product = linear_task(layer, y.rows(), y, Epilogue::store());
  task.own = {floats(x), x.row_stride, indices(index), static_cast<int>(x.cols())};
  launch_few_rows(task, stream_);
}

}  // namespace ardiff
