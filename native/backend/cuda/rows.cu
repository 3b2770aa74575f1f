// Moving rows about: embed, gather_rows, scatter_rows, convert, add.
#include "backend/cuda/cuda_backend.h"
#include "backend/cuda/elements.cuh"
#include "backend/cuda/launch.cuh"
#include "backend/op_checks.h"

namespace ardiff {

using namespace cuda;

namespace {

template <typename T>
__global__ void embed_kernel(const T* table, int64_t table_stride, const int32_t* ids, int64_t rows, int64_t width, float* y, int64_t y_stride) {
  for (int64_t i = first_item(); i < rows * width; i += item_step()) {
    const int64_t m = i / width, c = i % width;
    y[m * y_stride + c] = to_float(table[ids[m] * table_stride + c]);
  }
}

// Pieces of 2 to 16 bytes as they are: y[m] = x[from[m]] or, where from is null, y[to[m]] = x[m].
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

// kVec numbers at a time.
template <typename X, typename Y, int kVec>
__global__ void convert_kernel(const X* x, int64_t count, Y* y) {
  wait_for_predecessor();
  let_successor_begin();
  for (int64_t i = first_item() * kVec; i < count; i += item_step() * kVec) {
    float numbers[kVec];
    load_elements<kVec>(x + i, numbers);
    store_elements<kVec>(y + i, numbers);
  }
}

template <int kVec>
__global__ void add_kernel(const float* a, const float* b, int64_t count, float* y) {
  wait_for_predecessor();
  let_successor_begin();
  for (int64_t i = first_item() * kVec; i < count; i += item_step() * kVec) {
    float of_a[kVec], of_b[kVec];
    load_elements<kVec>(a + i, of_a);
    load_elements<kVec>(b + i, of_b);
#pragma unroll
    for (int e = 0; e < kVec; ++e) of_a[e] += of_b[e];
    store_elements<kVec>(y + i, of_a);
  }
}

// A view without gaps between its rows.
bool lies_whole_by_four(const TensorView& view) { return view.shape.size() % 4 == 0 && lies_by_four(view.data, 0, dtype_size(view.dtype)); }

// In the largest pieces that rows of both consist of and begin at.
void copy_rows(const TensorView& x, const int32_t* from, const TensorView& y, const int32_t* to, int64_t rows, const Stream& stream) {
  const auto bytes = static_cast<int64_t>(dtype_size(x.dtype));
  const int64_t width = x.cols() * bytes, x_stride = x.row_stride * bytes, y_stride = y.row_stride * bytes;
  if (rows * width == 0) return;
  const auto copy = [&](auto piece) {
    using Piece = decltype(piece);
    constexpr auto kBytes = static_cast<int64_t>(sizeof(Piece));
    const int64_t pieces = width / kBytes;
    launch_dependent(stream, {blocks_for(rows * pieces)}, "copy rows", copy_rows_kernel<Piece>, elements<const Piece>(x), x_stride / kBytes, from,
                     elements<Piece>(y), y_stride / kBytes, to, rows, pieces);
  };
  const auto places = static_cast<uint64_t>(width | x_stride | y_stride) | reinterpret_cast<uintptr_t>(x.data) | reinterpret_cast<uintptr_t>(y.data);
  if (places % 16 == 0) return copy(uint4{});
  if (places % 8 == 0) return copy(uint2{});
  if (places % 4 == 0) return copy(uint32_t{});
  copy(uint16_t{});
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
  const bool by_four = lies_whole_by_four(x) && lies_whole_by_four(y);
  visit_element(x.dtype, [&](auto from) {
    visit_element(y.dtype, [&](auto to) {
      using X = decltype(from);
      using Y = decltype(to);
      launch_dependent(stream_, {blocks_for(by_four ? count / 4 : count)}, "convert", by_four ? convert_kernel<X, Y, 4> : convert_kernel<X, Y, 1>,
                       elements<X>(x), count, elements<Y>(y));
    });
  });
}

void CudaBackend::add(const TensorView& a, const TensorView& b, const TensorView& y) {
  op_checks::add(a, b, y);
  const int64_t count = y.shape.size();
  if (count == 0) return;
  const bool by_four = lies_whole_by_four(a) && lies_whole_by_four(b) && lies_whole_by_four(y);
  launch_dependent(stream_, {blocks_for(by_four ? count / 4 : count)}, "add", by_four ? add_kernel<4> : add_kernel<1>, floats(a), floats(b), count,
                   floats(y));
}

}  // namespace ardiff
