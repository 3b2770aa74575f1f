// A tensor is a view (pointer, dtype, shape, row stride) over storage that somebody else owns.
// The pointer belongs to a backend: only that backend's ops may follow it (it may be device memory).
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <string>

#include "base/error.h"
#include "tensor/dtype.h"

namespace ardiff {

// Up to four dimensions, row major.
class Shape {
 public:
  Shape() = default;
  Shape(std::initializer_list<int64_t> dims) {
    check(dims.size() <= 4, ErrorCode::kInternal, "a shape has at most 4 dimensions");
    for (int64_t dim : dims) dims_[static_cast<size_t>(rank_++)] = dim;
  }
  int rank() const { return rank_; }
  int64_t operator[](int i) const { return dims_[static_cast<size_t>(i)]; }
  int64_t size() const {
    int64_t product = 1;
    for (int i = 0; i < rank_; ++i) product *= dims_[static_cast<size_t>(i)];
    return product;
  }
  bool operator==(const Shape&) const = default;
  std::string text() const {
    std::string out = "[";
    for (int i = 0; i < rank_; ++i) out += (i ? ", " : "") + std::to_string(dims_[static_cast<size_t>(i)]);
    return out + "]";
  }

 private:
  std::array<int64_t, 4> dims_{};
  int rank_ = 0;
};

// Host memory that is only read: a tensor of a mapped checkpoint, or an array of the caller. Contiguous.
struct HostTensor {
  const void* data = nullptr;
  DType dtype = DType::kF32;
  Shape shape;
  std::string name;  // for error messages

  explicit operator bool() const { return data != nullptr; }
};

// A view of backend memory.
//   rank 2: element (r, c) at data[r * row_stride + c]; columns contiguous. Column slices keep row_stride.
//   other ranks: contiguous, row major.
struct TensorView {
  std::byte* data = nullptr;
  DType dtype = DType::kF32;
  Shape shape;
  int64_t row_stride = 0;  // elements; rank 2 only

  TensorView() = default;
  TensorView(void* pointer, DType type, const Shape& dims)
      : data(static_cast<std::byte*>(pointer)), dtype(type), shape(dims), row_stride(dims.rank() == 2 ? dims[1] : 0) {}

  explicit operator bool() const { return data != nullptr; }
  int64_t rows() const { return shape[0]; }
  int64_t cols() const { return shape[1]; }
  bool contiguous() const { return shape.rank() != 2 || row_stride == shape[1]; }
  size_t bytes() const { return static_cast<size_t>(shape.size()) * dtype_size(dtype); }

  // Rows [begin, end) of a rank-2 view.
  TensorView row_slice(int64_t begin, int64_t end) const {
    check(shape.rank() == 2 && begin >= 0 && begin <= end && end <= rows(), ErrorCode::kInternal, "row_slice ", begin, "..", end, " of ",
          shape.text());
    TensorView out = *this;
    out.data += static_cast<size_t>(begin * row_stride) * dtype_size(dtype);
    out.shape = {end - begin, cols()};
    return out;
  }
  // Columns [begin, end) of a rank-2 view; not contiguous in general.
  TensorView col_slice(int64_t begin, int64_t end) const {
    check(shape.rank() == 2 && begin >= 0 && begin <= end && end <= cols(), ErrorCode::kInternal, "col_slice ", begin, "..", end, " of ",
          shape.text());
    TensorView out = *this;
    out.data += static_cast<size_t>(begin) * dtype_size(dtype);
    out.shape = {rows(), end - begin};
    return out;
  }
  // The same elements under another shape; the view must be contiguous.
  TensorView reshape(const Shape& dims) const {
    check(contiguous() && dims.size() == shape.size(), ErrorCode::kInternal, "reshape ", shape.text(), " to ", dims.text());
    return TensorView(data, dtype, dims);
  }
};

// Backend memory with an owner: freed when the last copy goes.
using Storage = std::shared_ptr<std::byte>;

// A view together with (a share of) the storage it looks into.
struct Tensor {
  Storage storage;
  TensorView view;

  operator const TensorView&() const { return view; }  // NOLINT(google-explicit-constructor): a tensor is its view
  explicit operator bool() const { return static_cast<bool>(view); }
};

}  // namespace ardiff
