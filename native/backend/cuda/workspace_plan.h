// Several arrays of one op in one piece of reusable device memory.
#pragma once

#include <cstddef>
#include <cstdint>

namespace ardiff::cuda {

class WorkspacePlan {
 public:
  // Where an array of `count` numbers of T will begin, in bytes; 256-byte aligned.
  template <typename T>
  size_t add(int64_t count) {
    const size_t at = bytes_;
    bytes_ += (static_cast<size_t>(count) * sizeof(T) + 255) / 256 * 256;
    return at;
  }
  size_t bytes() const { return bytes_; }

 private:
  size_t bytes_ = 0;
};

}  // namespace ardiff::cuda
