// Working memory that grows to the largest request and is then reused: no allocation after warm-up.
#pragma once

#include "backend/host_memory.h"

namespace ardiff::cpu {

class ReusableMemory {
 public:
  // Room for `count` elements, contents undefined. Invalidates what the last call returned.
  template <typename T>
  T* get(int64_t count) {
    const size_t bytes = static_cast<size_t>(count) * sizeof(T);
    if (bytes > bytes_) {
      storage_.reset();
      bytes_ = 0;
      const size_t rounded = bytes + bytes / 4;  // a little ahead of a slowly growing batch
      storage_ = allocate_host(rounded);
      bytes_ = rounded;
    }
    return reinterpret_cast<T*>(storage_.get());
  }

 private:
  Storage storage_;
  size_t bytes_ = 0;
};

}  // namespace ardiff::cpu
