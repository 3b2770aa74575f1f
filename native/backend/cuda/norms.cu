// RMS norm and layer norms: a block per row, or a warp where rows are many. A row's sums are added in the same order either way
// (row_norm.cuh).
#include "backend/cuda/cuda_backend.h"
#include "backend/cuda/device.h"
#include "backend/cuda/kept_row.cuh"
#include "backend/cuda/launch.cuh"
#include "backend/op_checks.h"

namespace ardiff {

using namespace cuda;

namespace {

constexpr int64_t kMostBlocks = 65535;  // blocks go on from there
// A warp has a row of its own where there are enough for every multiprocessor's warps and the row fits into its registers.
constexpr int64_t kRowsForWarps = 512;
constexpr int kColumnsOfWarpChunk = 4 * 32, kColumnsOfBlockChunk = 4 * kBlock;

// kChunks: of a row in registers; 0: it is read again.
template <typename T, int kChunks, bool kByFour>
__global__ void __launch_bounds__(kBlock, 2) norm_kernel(RowNormTask a, T* y, int64_t y_stride) {
  __shared__ float of_parts[kBlock];
  wait_for_predecessor();
  let_successor_begin();
  for (int64_t m = blockIdx.x; m < a.rows; m += gridDim.x) {
    T* const to = y + m * y_stride;
    if constexpr (kChunks > 0) {
      norm_kept_row<kBlock, kChunks>(a, m, to, &of_parts);
    } else {
      norm_row<kByFour>(a, m, to, of_parts);
    }
  }
}

template <typename T, int kChunks>
__global__ void __launch_bounds__(kBlock, 2) norm_by_warps_kernel(RowNormTask a, T* y, int64_t y_stride) {
  constexpr int kWarps = kBlock / 32;
  wait_for_predecessor();
  let_successor_begin();
  for (int64_t m = static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.x / 32; m < a.rows;
       m += static_cast<int64_t>(gridDim.x) * kWarps) {
    norm_kept_row<32, kChunks>(a, m, y + m * y_stride, nullptr);
  }
}

template <typename T>
auto block_kernel(const RowNormTask& task, bool by_four) {
  if (!by_four) return norm_kernel<T, 0, false>;
  if (task.width <= 2 * kColumnsOfBlockChunk) return norm_kernel<T, 2, true>;
  if (task.width <= 6 * kColumnsOfBlockChunk) return norm_kernel<T, 6, true>;
  return norm_kernel<T, 0, true>;
}

void launch_norm(const RowNormTask& task, const TensorView& y, const char* op, const Stream& stream) {
  if (task.rows == 0) return;
  const bool by_four = task.by_four && lies_by_four(y.data, y.row_stride, dtype_size(y.dtype));
  const bool by_warps = by_four && task.rows >= kRowsForWarps && task.width <= 16 * kColumnsOfWarpChunk;
  const auto blocks = static_cast<unsigned>(std::min(by_warps ? ceil_div(task.rows, kBlock / 32) : task.rows, kMostBlocks));
  visit_element(y.dtype, [&](auto type) {
    using T = decltype(type);
    const auto kernel = !by_warps                               ? block_kernel<T>(task, by_four)
                        : task.width <= 8 * kColumnsOfWarpChunk ? norm_by_warps_kernel<T, 8>
                                                                : norm_by_warps_kernel<T, 16>;
    launch_dependent(stream, {blocks}, op, kernel, task, elements<T>(y), y.row_stride);
  });
}

}  // namespace

void CudaBackend::rms_norm(const TensorView& x, const TensorView& w, float eps, const TensorView& y) {
  op_checks::rms_norm(x, w, y);
  launch_norm(row_norm_task(x, RowNorm::rms(w, eps)), y, "rms_norm", stream_);
}

void CudaBackend::layer_norm(const TensorView& x, const TensorView& w, const TensorView& b, float eps, const TensorView& y) {
  op_checks::layer_norm(x, w, b, y);
  launch_norm(row_norm_task(x, RowNorm::layer(w, b, eps)), y, "layer_norm", stream_);
}

void CudaBackend::ada_layer_norm(const TensorView& x, const TensorView& w, const TensorView& b, float eps, const TensorView& shift,
                                 const TensorView& scale, const TensorView& modulation_rows, const TensorView& y) {
  op_checks::ada_layer_norm(x, w, b, shift, scale, modulation_rows, y);
  launch_norm(row_norm_task(x, RowNorm::modulated(w, b, eps, shift, scale, modulation_rows)), y, "ada_layer_norm", stream_);
}

}  // namespace ardiff
