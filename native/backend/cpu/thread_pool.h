// Fork and join for the kernels. All calls come from one thread, which takes part in the work.
//
// Chunks of a job belong to threads in fixed shares, so that a core finds its weights in its own cache, but a
// thread that is done takes over what others have not begun. On a machine with other work a fork-join that waits
// for every thread waits for the scheduler: milliseconds in place of microseconds. Here a thread that is not
// running just gets no chunks. Who computes a chunk never changes a result (kernels.h).
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <thread>
#include <type_traits>
#include <vector>

namespace ardiff::cpu {

class ThreadPool {
 public:
  // `threads` including the caller's.
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int threads() const { return threads_; }

  // body(chunk, worker) for chunk in [0, chunks), worker in [0, threads()). The body must not throw.
  template <typename Body>
  void run(int64_t chunks, Body&& body) {
    if (chunks <= 1 || threads_ == 1) {
      for (int64_t chunk = 0; chunk < chunks; ++chunk) body(chunk, 0);
      return;
    }
    run_job(chunks, [](void* context, int64_t chunk, int worker) { (*static_cast<std::remove_reference_t<Body>*>(context))(chunk, worker); }, &body);
  }

  // body(begin, end) over disjoint ranges of [0, items). element_cost: simple elements one item stands for;
  // small work stays on the calling thread.
  template <typename Body>
  void run_ranges(int64_t items, int64_t element_cost, Body&& body) {
    int64_t chunks = items * element_cost / kElementsPerChunk;
    if (chunks > kChunksPerThread * threads_) chunks = kChunksPerThread * threads_;
    if (chunks > items) chunks = items;
    if (chunks <= 1 || threads_ == 1) {
      if (items > 0) body(int64_t{0}, items);
      return;
    }
    run(chunks, [&](int64_t chunk, int) { body(items * chunk / chunks, items * (chunk + 1) / chunks); });
  }

  // Between jobs the workers spin for a while, so that the next one starts at once. This sends them to sleep instead:
  // for the moments when somebody else should find a free core.
  void rest() { resting_.store(true, std::memory_order_relaxed); }

  static constexpr int64_t kElementsPerChunk = 8 * 1024;  // of simple work: about a microsecond
  static constexpr int64_t kChunksPerThread = 4;

 private:
  using Call = void (*)(void* context, int64_t chunk, int worker);

  // What is left of one thread's share: generation << 32 | end << 16 | next. Chunks are claimed by compare and
  // swap, so a thread that slept through a job cannot touch the next one.
  struct alignas(64) Share {
    std::atomic<uint64_t> left{0};
  };

  void run_job(int64_t chunks, Call call, void* context);
  void work(uint32_t generation, int worker);
  void serve(int worker);

  const int threads_;
  // Of the running job; read only after a chunk of it was claimed.
  Call call_ = nullptr;
  void* context_ = nullptr;
  std::unique_ptr<Share[]> shares_;
  alignas(64) std::atomic<uint32_t> generation_{0};
  alignas(64) std::atomic<int64_t> unfinished_{0};
  std::atomic<bool> resting_{false};
  std::atomic<bool> stopping_{false};
  std::vector<std::thread> workers_;
};

}  // namespace ardiff::cpu
