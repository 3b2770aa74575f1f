// A growing matrix whose rows are handed out one by one: per-sequence state (hidden states, image tokens) that
// lives across steps and is gathered into batches by index.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "backend/backend.h"

namespace ardiff {

class RowPool {
 public:
  RowPool(Backend& backend, int64_t columns) : backend_(backend), columns_(columns) {}

  const TensorView& view() const { return rows_.view; }  // (capacity, columns) f32
  int64_t columns() const { return columns_; }
  int64_t used() const { return capacity() - static_cast<int64_t>(free_.size()); }

  // Contents are whatever was there. Throws kOutOfMemory, then nothing has changed.
  std::vector<int32_t> take(int64_t count) {
    if (static_cast<int64_t>(free_.size()) < count) grow(count);
    std::vector<int32_t> out(free_.end() - count, free_.end());
    free_.resize(free_.size() - static_cast<size_t>(count));
    return out;
  }
  void give_back(const std::vector<int32_t>& rows) { free_.insert(free_.end(), rows.begin(), rows.end()); }

 private:
  int64_t capacity() const { return rows_ ? rows_.view.rows() : 0; }

  void grow(int64_t count) {
    const int64_t before = capacity(), after = std::max<int64_t>({64, 2 * before, before + count});
    const Tensor wider = backend_.make(DType::kF32, {after, columns_});
    if (before > 0) {
      std::vector<int32_t> identity(static_cast<size_t>(before));
      for (int64_t i = 0; i < before; ++i) identity[static_cast<size_t>(i)] = static_cast<int32_t>(i);
      const Tensor index = backend_.make(DType::kI32, {before});
      backend_.upload(index.view, identity.data());
      backend_.gather_rows(rows_.view, index.view, wider.view.row_slice(0, before));
    }
    rows_ = wider;
    for (int64_t row = after; row-- > before;) free_.push_back(static_cast<int32_t>(row));
  }

  Backend& backend_;
  int64_t columns_;
  Tensor rows_;
  std::vector<int32_t> free_;
};

}  // namespace ardiff
