// Moving rows about: embed, gather_rows, scatter_rows, convert, add.
#include <cstring>

#include "backend/op_checks.h"
#include "backend/reference/elements.h"
#include "backend/reference/reference_backend.h"

namespace ardiff {
namespace {

void copy_row(const TensorView& from, int64_t r, const TensorView& to, int64_t s) {
  const size_t size = dtype_size(from.dtype);
  std::memcpy(to.data + static_cast<size_t>(s * to.row_stride) * size, from.data + static_cast<size_t>(r * from.row_stride) * size,
              static_cast<size_t>(from.cols()) * size);
}

}  // namespace

void ReferenceBackend::embed(const TensorView& table, const TensorView& ids, const TensorView& y) {
  op_checks::embed(table, ids, y);
  for (int64_t m = 0; m < y.rows(); ++m) {
    const int32_t id = reference::indices(ids)[m];
    for (int64_t c = 0; c < y.cols(); ++c) reference::store(y, m, c, reference::load(table, id, c));
  }
}

void ReferenceBackend::gather_rows(const TensorView& x, const TensorView& index, const TensorView& y) {
  op_checks::gather_rows(x, index, y);
  for (int64_t m = 0; m < y.rows(); ++m) copy_row(x, reference::indices(index)[m], y, m);
}

void ReferenceBackend::scatter_rows(const TensorView& x, const TensorView& index, const TensorView& y) {
  op_checks::scatter_rows(x, index, y);
  for (int64_t m = 0; m < x.rows(); ++m) copy_row(x, m, y, reference::indices(index)[m]);
}

void ReferenceBackend::convert(const TensorView& x, const TensorView& y) {
  op_checks::convert(x, y);
  for (int64_t i = 0; i < x.shape.size(); ++i) reference::store(y, i, reference::load(x, i));
}

void ReferenceBackend::add(const TensorView& a, const TensorView& b, const TensorView& y) {
  op_checks::add(a, b, y);
  for (int64_t i = 0; i < y.shape.size(); ++i) reference::store(y, i, reference::load(a, i) + reference::load(b, i));
}

}  // namespace ardiff
