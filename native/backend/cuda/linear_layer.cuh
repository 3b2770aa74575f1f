// A prepared linear layer of the cuda backend, and the product with it.
#pragma once

#include "backend/backend.h"
#include "backend/cuda/cublas_lt.h"
#include "backend/cuda/linear.cuh"

namespace ardiff::cuda {

// float32: weight (out, in). bfloat16: as weight_layout.cuh says, zeros up to whole steps and blocks; for cuBLASLt (out, depth), zeros
// beyond in.
struct CudaLinear final : Linear {
  using Linear::Linear;
  Storage weight;
  Storage bias;       // (out) f32
  int64_t depth = 0;  // in, or in bf16 that rounded up to whole steps
  const LtAlgorithms* algorithms = nullptr;  // cuBLASLt's; null: own kernels
};

// All but the input.
inline LinearTask linear_task(const CudaLinear& layer, int64_t rows, const TensorView& y, const Epilogue& epilogue) {
  LinearTask task{};
  task.rows = rows;
  task.depth = static_cast<int>(layer.depth);
  task.columns = static_cast<int>(layer.out_features);
  task.weight = layer.weight.get();
  task.bias = reinterpret_cast<const float*>(layer.bias.get());
  task.y = y.data;
  task.y_stride = y.row_stride;
  task.y_bf16 = y.dtype == DType::kBF16;
  task.kind = epilogue.kind;
  task.gate = floats(epilogue.gate);
  task.gate_stride = epilogue.gate.row_stride;
  task.gate_rows = indices(epilogue.gate_rows);
  return task;
}

}  // namespace ardiff::cuda
