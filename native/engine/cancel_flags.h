// Cancel flags by sequence id: set from any thread, polled by the engine thread at every timestep.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <unordered_map>

namespace ardiff {

class CancelFlags {
 public:
  std::shared_ptr<std::atomic<bool>> add(uint32_t sequence) {
    const std::lock_guard lock(mutex_);
    return flags_[sequence] = std::make_shared<std::atomic<bool>>(false);
  }
  void remove(uint32_t sequence) {
    const std::lock_guard lock(mutex_);
    flags_.erase(sequence);
  }
  // Unknown ids are ignored: the sequence may have finished a moment ago.
  void set(uint32_t sequence) {
    const std::lock_guard lock(mutex_);
    const auto found = flags_.find(sequence);
    if (found != flags_.end()) found->second->store(true, std::memory_order_relaxed);
  }

 private:
  std::mutex mutex_;
  std::unordered_map<uint32_t, std::shared_ptr<std::atomic<bool>>> flags_;
};

}  // namespace ardiff
