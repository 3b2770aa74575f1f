#include "addon/engine_thread.h"

namespace ardiff::addon {

EngineThread::EngineThread(Napi::Env env)
    : to_javascript_(Napi::ThreadSafeFunction::New(env, Napi::Function(), "fast-ardiff engine", /*maxQueueSize=*/0, /*initialThreadCount=*/1)),
      env_(env) {
  // An idle engine must not keep the process alive.
  to_javascript_.Unref(env);
  thread_ = std::thread([this] { run(); });
}

EngineThread::~EngineThread() { close(); }

bool EngineThread::post(Work work) {
  {
    const std::lock_guard lock(mutex_);
    if (closing_) return false;
    queue_.push_back(std::move(work));
  }
  if ((*in_flight_)++ == 0) to_javascript_.Ref(env_);
  wake_.notify_one();
  return true;
}

void EngineThread::close() {
  {
    const std::lock_guard lock(mutex_);
    if (closing_) return;
    closing_ = true;
  }
  wake_.notify_one();
  thread_.join();
  // Completions already queued still run: Release lets the queue drain before it closes.
  to_javascript_.Release();
}

void EngineThread::run() {
  while (true) {
    Work work;
    {
      std::unique_lock lock(mutex_);
      wake_.wait(lock, [this] { return closing_ || !queue_.empty(); });
      if (queue_.empty()) return;
      work = std::move(queue_.front());
      queue_.pop_front();
    }
    Completion completion = work();
    work = nullptr;
    complete(std::move(completion));
  }
}

void EngineThread::complete(Completion completion) {
  auto settled = std::make_unique<Completion>(std::move(completion));
  const napi_status status =
      to_javascript_.NonBlockingCall(settled.get(), [in_flight = in_flight_, function = to_javascript_](Napi::Env env, Napi::Function, Completion* done) {
        const std::unique_ptr<Completion> owned(done);
        // env is null when the environment is being torn down: nobody is left to be told.
        if (static_cast<napi_env>(env) == nullptr) return;
        if (--*in_flight == 0) function.Unref(env);
        if (*owned) (*owned)(env);
      });
  // The call owns it now; it runs even when the environment is torn down.
  if (status == napi_ok) static_cast<void>(settled.release());
  // NOLINTNEXTLINE(clang-analyzer-cplusplus.NewDeleteLeaks)
}

}  // namespace ardiff::addon
