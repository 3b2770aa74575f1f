// A stretch: ops that a model enqueues one after the other and nothing else, so that a backend may keep them as one thing (a CUDA
// graph) and run that when they come again. The key says when they do.
#pragma once

#include <atomic>
#include <cstdint>
#include <span>
#include <vector>

#include "backend/ops.h"

namespace ardiff {

// Whoever has stretches: his weights are part of what they do. Never the same for two objects, not even for one that stands where
// another stood; moves along with its owner.
class StretchOwner {
 public:
  StretchOwner() : id_(next()++) {}
  uint64_t id() const { return id_; }

 private:
  static std::atomic<uint64_t>& next() {
    static std::atomic<uint64_t> id{1};
    return id;
  }
  uint64_t id_;
};

// All that the ops of a stretch follow from, beside what stands in the memory they read: who enqueues them, shapes, addresses, numbers
// passed by value. Equal keys: the same ops on the same memory.
class StretchKey {
 public:
  explicit StretchKey(const StretchOwner& owner) { words_.push_back(owner.id()); }

  StretchKey& add(int64_t number) {
    words_.push_back(static_cast<uint64_t>(number));
    return *this;
  }
  StretchKey& add(const TensorView& view) {
    words_.push_back(reinterpret_cast<uintptr_t>(view.data));
    words_.push_back(static_cast<uint64_t>(view.dtype) << 8 | static_cast<uint64_t>(view.shape.rank()));
    for (int i = 0; i < view.shape.rank(); ++i) add(view.shape[i]);
    return add(view.row_stride);
  }
  StretchKey& add(std::span<const TensorView> views) {
    for (const TensorView& view : views) add(view);
    return add(static_cast<int64_t>(views.size()));
  }
  StretchKey& add(const PagedContext& context) { return add(context.block_tables).add(context.table_rows).add(context.context_lengths); }
  // The first layer whole, of the others where they are: they have its shape.
  StretchKey& add(std::span<const KvLayer> layers) {
    if (!layers.empty()) add(layers[0].keys).add(layers[0].values);
    for (const KvLayer& layer : layers) {
      words_.push_back(reinterpret_cast<uintptr_t>(layer.keys.data));
      words_.push_back(reinterpret_cast<uintptr_t>(layer.values.data));
    }
    return add(static_cast<int64_t>(layers.size()));
  }

  bool operator==(const StretchKey&) const = default;

 private:
  std::vector<uint64_t> words_;
};

// What a backend's stretches came to since it was made.
struct StretchCounts {
  int64_t plain = 0;       // runs op by op
  int64_t recorded = 0;    // times one was recorded
  int64_t replayed = 0;    // runs of a recording
  int64_t kept = 0;        // recordings there are now
  int64_t kept_ops = 0;    // launches in them
  int64_t kept_bytes = 0;  // that the device had less of once they were made
  int64_t last_ops = 0;    // launches of the recording that ran last
};

}  // namespace ardiff
