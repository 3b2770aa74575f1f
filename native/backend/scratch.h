// Short-lived tensors of one step from memory that is kept: a bump allocator over backend storage. After the
// first steps it has grown to the step's high-water mark and allocates nothing more.
#pragma once

#include <vector>

#include "backend/backend.h"

namespace ardiff {

class Scratch {
 public:
  explicit Scratch(Backend& backend) : backend_(backend) {}

  // Uninitialised. Valid until the enclosing Frame (or reset) ends. Throws kOutOfMemory.
  TensorView take(DType dtype, const Shape& shape);

  // The values as an index view (kI32) on the backend. Valid as take() is.
  TensorView index(const std::vector<int32_t>& values) {
    const TensorView view = take(DType::kI32, {static_cast<int64_t>(values.size())});
    backend_.upload(view, values.data());
    return view;
  }

  // Frees everything taken since construction when it goes out of scope: one per layer, timestep, image.
  class Frame {
   public:
    explicit Frame(Scratch& scratch) : scratch_(scratch), chunk_(scratch.chunk_), used_(scratch.used_), before_(scratch.before_) {}
    ~Frame() {
      scratch_.chunk_ = chunk_;
      scratch_.used_ = used_;
      scratch_.before_ = before_;
    }
    Frame(const Frame&) = delete;
    Frame& operator=(const Frame&) = delete;

   private:
    Scratch& scratch_;
    size_t chunk_;
    size_t used_;
    size_t before_;
  };

  // Where the next tensors will lie: from the same place, the same shapes taken in the same order have the same addresses.
  void add_place(StretchKey& key) const { key.add(static_cast<int64_t>(layout_.id())).add(static_cast<int64_t>(chunk_)).add(static_cast<int64_t>(used_)); }

  // Drops every tensor and, where several chunks were needed, joins them into one for the next step.
  void reset();
  size_t capacity() const;
  // The most that was taken at once, since memory was last joined; exact where it is one piece.
  size_t most_used() const { return most_; }
  // Between steps: memory for so much at once, in one piece, so that none is allocated later.
  void reserve(size_t bytes);

 private:
  struct Chunk {
    Storage storage;
    size_t size;
  };
  Backend& backend_;
  void add_chunk(size_t size);

  std::vector<Chunk> chunks_;
  StretchOwner layout_;  // another one for every set of chunks
  size_t chunk_ = 0;  // chunk being filled
  size_t used_ = 0;   // bytes used of it
  size_t before_ = 0; // size of the chunks before it
  size_t most_ = 0;
};

}  // namespace ardiff
