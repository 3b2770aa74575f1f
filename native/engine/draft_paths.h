// Paths of drafted tokens on the backend, from the draft to the verdict: one row for every step of every draft of a round. Memory
// that grows and stays where it is, beside the scratch: how much a round drafts does not move what others take from that.
#pragma once

#include <algorithm>
#include <cstdint>

#include "backend/backend.h"
#include "engine/token_sampler.h"

namespace ardiff {

class DraftPaths {
 public:
  DraftPaths(Backend& backend, int64_t columns) : backend_(backend), columns_(columns) {}

  // Makes room for a round; what was there is gone. Throws kOutOfMemory.
  void reserve(int64_t rows) {
    if (rows > capacity_) grow(rows);
    rows_ = rows;
  }

  // What the draft records and verification reads, (rows, D) f32 each.
  PathRecord record() const { return {part(states_), part(velocity_), part(noise_)}; }
  // The target's: guided velocity, and the state one step on.
  TensorView target_velocity() const { return part(target_velocity_); }
  TensorView next() const { return part(next_); }

 private:
  TensorView part(const Tensor& tensor) const { return tensor.view.row_slice(0, rows_); }
  void grow(int64_t rows) {
    const int64_t wanted = std::max({rows, 2 * capacity_, int64_t{64}});
    capacity_ = 0;
    for (Tensor* tensor : {&states_, &velocity_, &noise_, &target_velocity_, &next_}) {
      *tensor = {};
      *tensor = backend_.make(DType::kF32, {wanted, columns_});
    }
    capacity_ = wanted;
  }

  Backend& backend_;
  int64_t columns_;
  int64_t capacity_ = 0, rows_ = 0;
  Tensor states_, velocity_, noise_, target_velocity_, next_;
};

}  // namespace ardiff
