#include "backend/cpu/thread_pool.h"

#include <chrono>
#include <system_error>

#include "base/error.h"

namespace ardiff::cpu {
namespace {

// How long an idle worker spins before it sleeps: longer than the gaps inside an engine step, short enough
// not to be seen in the machine's load.
constexpr auto kSpinTime = std::chrono::microseconds(200);

void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

// Spins until ready() or for kSpinTime; returns ready().
template <typename Ready>
bool spin(Ready&& ready) {
  using Clock = std::chrono::steady_clock;
  Clock::time_point until{};
  while (true) {
    for (int i = 0; i < 256; ++i) {
      if (ready()) return true;
      relax();
    }
    if (until == Clock::time_point{}) until = Clock::now() + kSpinTime;  // the clock is for those who wait long
    if (Clock::now() >= until) return false;
  }
}

}  // namespace

ThreadPool::ThreadPool(int threads) : threads_(threads), shares_(new Share[static_cast<size_t>(threads)]) {
  try {
    for (int worker = 1; worker < threads_; ++worker) workers_.emplace_back([this, worker] { serve(worker); });
  } catch (const std::system_error& error) {
    stopping_ = true;
    ++generation_;
    generation_.notify_all();
    for (std::thread& thread : workers_) thread.join();
    fail(ErrorCode::kOutOfMemory, "cannot start ", threads_, " threads: ", error.what());
  }
}

ThreadPool::~ThreadPool() {
  stopping_ = true;
  ++generation_;
  generation_.notify_all();
  for (std::thread& thread : workers_) thread.join();
}

void ThreadPool::run_job(int64_t chunks, Call call, void* context) {
  check(chunks < 0xffff, ErrorCode::kInternal, "thread pool: ", chunks, " chunks in one job");
  const uint32_t generation = generation_.load(std::memory_order_relaxed) + 1;
  call_ = call;
  context_ = context;
  unfinished_.store(chunks, std::memory_order_relaxed);
  for (int64_t owner = 0; owner < threads_; ++owner) {
    const auto begin = static_cast<uint64_t>(chunks * owner / threads_);
    const auto end = static_cast<uint64_t>(chunks * (owner + 1) / threads_);
    shares_[static_cast<size_t>(owner)].left.store(uint64_t{generation} << 32 | end << 16 | begin, std::memory_order_release);
  }
  resting_.store(false, std::memory_order_relaxed);
  generation_.store(generation, std::memory_order_release);
  generation_.notify_all();
  work(generation, 0);
  // Only chunks that somebody is computing right now are left.
  while (!spin([&] { return unfinished_.load(std::memory_order_acquire) == 0; })) std::this_thread::yield();
}

void ThreadPool::work(uint32_t generation, int worker) {
  for (int offset = 0; offset < threads_; ++offset) {
    std::atomic<uint64_t>& left = shares_[static_cast<size_t>((worker + offset) % threads_)].left;
    uint64_t seen = left.load(std::memory_order_acquire);
    while (true) {
      const uint64_t next = seen & 0xffff;
      if (seen >> 32 != generation) return;
      if (next >= (seen >> 16 & 0xffff)) break;
      if (!left.compare_exchange_weak(seen, seen + 1, std::memory_order_acq_rel, std::memory_order_acquire)) continue;
      call_(context_, static_cast<int64_t>(next), worker);
      unfinished_.fetch_sub(1, std::memory_order_release);
      seen = left.load(std::memory_order_acquire);
    }
  }
}

void ThreadPool::serve(int worker) {
  uint32_t served = 0;
  while (true) {
    auto news = [&] { return generation_.load(std::memory_order_acquire) != served; };
    spin([&] { return news() || resting_.load(std::memory_order_relaxed); });
    if (!news()) generation_.wait(served, std::memory_order_acquire);
    if (stopping_) return;
    served = generation_.load(std::memory_order_acquire);
    work(served, worker);
  }
}

}  // namespace ardiff::cpu
