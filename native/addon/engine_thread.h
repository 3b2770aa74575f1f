// One thread that owns the engine and the backend. JavaScript posts work, the thread runs it in order, the result
// is settled back on the JavaScript thread. No libuv pool thread is ever held by the engine.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>

#include <napi.h>

namespace ardiff::addon {

class EngineThread {
 public:
  // Runs on the JavaScript thread with a handle scope; settles a promise.
  using Completion = std::function<void(Napi::Env)>;
  // Runs on the engine thread; must not throw. May return an empty completion.
  using Work = std::function<Completion()>;

  explicit EngineThread(Napi::Env env);
  ~EngineThread();
  EngineThread(const EngineThread&) = delete;
  EngineThread& operator=(const EngineThread&) = delete;

  // JavaScript thread only. False after close(): the work was not taken.
  bool post(Work work);
  // JavaScript thread only. Runs what was posted, then joins. Idempotent.
  void close();

 private:
  void run();
  void complete(Completion completion);

  Napi::ThreadSafeFunction to_javascript_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<Work> queue_;
  bool closing_ = false;
  // Work posted and not yet settled; JavaScript thread only. While it is 0 the event loop may end. Shared with the
  // completions, which may be settled after this object is gone.
  std::shared_ptr<int64_t> in_flight_ = std::make_shared<int64_t>(0);
  Napi::Env env_;
  std::thread thread_;
};

}  // namespace ardiff::addon
