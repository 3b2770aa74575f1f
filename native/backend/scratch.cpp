#include "backend/scratch.h"

#include <algorithm>

namespace ardiff {

namespace {

constexpr size_t kAlignment = 64;
constexpr size_t kFirstChunk = 1u << 20;

size_t round_up(size_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

}  // namespace

TensorView Scratch::take(DType dtype, const Shape& shape) {
  const size_t bytes = round_up(static_cast<size_t>(shape.size()) * dtype_size(dtype));
  while (chunk_ < chunks_.size() && used_ + bytes > chunks_[chunk_].size) {
    before_ += chunks_[chunk_].size;
    ++chunk_;
    used_ = 0;
  }
  if (chunk_ == chunks_.size()) {
    add_chunk(std::max({bytes, kFirstChunk, 2 * capacity()}));
    used_ = 0;
  }
  std::byte* pointer = chunks_[chunk_].storage.get() + used_;
  used_ += bytes;
  most_ = std::max(most_, before_ + used_);
  return TensorView(pointer, dtype, shape);
}

void Scratch::reset() {
  chunk_ = 0;
  used_ = 0;
  before_ = 0;
  if (chunks_.size() <= 1) return;
  const size_t total = capacity();
  chunks_.clear();
  add_chunk(total);
  most_ = 0;
}

void Scratch::reserve(size_t bytes) {
  check(chunk_ == 0 && used_ == 0, ErrorCode::kInternal, "scratch is reserved while it is in use");
  if (capacity() >= bytes) return;
  chunks_.clear();
  add_chunk(bytes);
}

void Scratch::add_chunk(size_t size) {
  chunks_.push_back({backend_.allocate(size), size});
  layout_ = StretchOwner();
}

size_t Scratch::capacity() const {
  size_t total = 0;
  for (const Chunk& chunk : chunks_) total += chunk.size;
  return total;
}

}  // namespace ardiff
