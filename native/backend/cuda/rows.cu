// Moving rows about: embed, gather_rows, scatter_rows, convert, add.
#include <cuda_fp16.h>

#include "backend/cuda/cuda_backend.h"
#include "backend/cuda/launch.cuh"
#include "backend/op_checks.h"

namespace ardiff {

using namespace cuda;

namespace {

__device__ inline float to_f32(__half value) { return __half2float(value); }
template <typename T>
__device__ float to_f32(T value) {
  return to_float(value);
}

template <typename T>
__global__ void embed_kernel(const T* table, int64_t table_stride, const int32_t* ids, int64_t rows, int64_t width, float* y, int64_t y_stride) {
  for (int64_t i = first_item(); i < rows * width; i += item_step()) {
    const int64_t m = i / width, c = i % width;
    y[m * y_stride + c] = to_f32(table[ids[m] * table_stride + c]);
  }
}

// Elements of 2 or 4 bytes as they are: y[m] = x[from[m]] or, where from is null, y[to[m]] = x[m].
template <typename T>
__global__ void copy_rows_kernel(const T* x, int64_t x_stride, const int32_t* from, T* y, int64_t y_stride, const int32_t* to, int64_t rows,
                                 int64_t width) {
  wait_for_predecessor();
  let_successor_begin();
  for (int64_t i = first_item(); i < rows * width; i += item_step()) {
    const int64_t m = i / width, c = i % width;
    const int64_t source = from != nullptr ? from[m] : m, target = to != nullptr ? to[m] : m;
    y[target * y_stride + c] = x[source * x_stride + c];
  }
}

template <typename X, typename Y>
__global__ void convert_kernel(const X* x, int64_t count, Y* y) {
  wait_for_predecessor();
  let_successor_begin();
  for (int64_t i = first_item(); i < count; i += item_step()) y[i] = from_float<Y>(to_float(x[i]));
}

__global__ void add_kernel(const float* a, const float* b, int64_t count, float* y) {
  wait_for_predecessor();
  let_successor_begin();
  for (int64_t i = first_item(); i < count; i += item_step()) y[i] = a[i] + b[i];
}

void copy_rows(const TensorView& x, const int32_t* from, const TensorView& y, const int32_t* to, int64_t rows, const Stream& stream) {
  const int64_t width = x.cols();
  if (rows * width == 0) return;
  if (dtype_size(x.dtype) == 2) {
    launch_dependent(stream, {blocks_for(rows * width)}, "copy rows", copy_rows_kernel<uint16_t>, elements<const uint16_t>(x), x.row_stride, from,
                     elements<uint16_t>(y), y.row_stride, to, rows, width);
  } else {
    launch_dependent(stream, {blocks_for(rows * width)}, "copy rows", copy_rows_kernel<uint32_t>, elements<const uint32_t>(x), x.row_stride, from,
                     elements<uint32_t>(y), y.row_stride, to, rows, width);
  }
}

}  // namespace

void CudaBackend::embed(const TensorView& table, const TensorView& ids, const TensorView& y) {
  op_checks::embed(table, ids, y);
  const int64_t items = y.rows() * y.cols();
  if (items == 0) return;
  const auto run = [&](auto* rows) {
    embed_kernel<<<blocks_for(items), kBlock, 0, stream_>>>(rows, table.row_stride, indices(ids), y.rows(), y.cols(), floats(y), y.row_stride);
  };
  switch (table.dtype) {
    case DType::kBF16: run(elements<const cuda::bf16>(table)); break;
    case DType::kF16: run(elements<const __half>(table)); break;
    default: run(elements<const float>(table)); break;
  }
  check_launch("embed");
}

void CudaBackend::gather_rows(const TensorView& x, const TensorView& index, const TensorView& y) {
  op_checks::gather_rows(x, index, y);
  copy_rows(x, indices(index), y, nullptr, y.rows(), stream_);
}

void CudaBackend::scatter_rows(const TensorView& x, const TensorView& index, const TensorView& y) {
  op_checks::scatter_rows(x, index, y);
  copy_rows(x, nullptr, y, indices(index), x.rows(), stream_);
}

void CudaBackend::convert(const TensorView& x, const TensorView& y) {
  op_checks::convert(x, y);
  const int64_t count = x.shape.size();
  if (count == 0) return;
  visit_element(x.dtype, [&](auto from) {
    visit_element(y.dtype, [&](auto to) {
      using X = decltype(from);
      using Y = decltype(to);
      launch_dependent(stream_, {blocks_for(count)}, "convert", convert_kernel<X, Y>, elements<X>(x), count, elements<Y>(y));
    });
  });
}

void CudaBackend::add(const TensorView& a, const TensorView& b, const TensorView& y) {
  op_checks::add(a, b, y);
  const int64_t count = y.shape.size();
  if (count == 0) return;
  launch_dependent(stream_, {blocks_for(count)}, "add", add_kernel, floats(a), floats(b), count, floats(y));
}

}  // namespace ardiff
