// The class JavaScript sees (NativeEngine in src/engine/native-types.ts): argument checks, promises out. The
// backend and the models live on the engine thread; this side holds handles.
#pragma once

#include <future>
#include <memory>
#include <mutex>
#include <unordered_map>

#include <napi.h>

#include "addon/engine_thread.h"
#include "backend/backend.h"
#include "engine/engine.h"

namespace ardiff::addon {

class EngineWrap : public Napi::ObjectWrap<EngineWrap> {
 public:
  static Napi::Function define(Napi::Env env);

  explicit EngineWrap(const Napi::CallbackInfo& info);
  ~EngineWrap() override;

 private:
  // State of the engine thread. Only `models` is shared: cancel() looks engines up from the JavaScript thread.
  struct State {
    std::unique_ptr<Backend> backend;
    std::mutex mutex;
    std::unordered_map<uint32_t, std::shared_ptr<Engine>> models;
    std::shared_ptr<Engine> find(uint32_t handle);
  };

  Napi::Value info(const Napi::CallbackInfo& info);
  Napi::Value loaded_bytes(const Napi::CallbackInfo& info);
  Napi::Value load(const Napi::CallbackInfo& info);
  Napi::Value unload(const Napi::CallbackInfo& info);
  Napi::Value step(const Napi::CallbackInfo& info);
  Napi::Value probe(const Napi::CallbackInfo& info);
  void cancel(const Napi::CallbackInfo& info);
  void close(const Napi::CallbackInfo& info);

  void shut_down();
  // Runs `compute` on the engine thread and resolves the promise with `convert(env, result)` on this one.
  template <typename Compute, typename Convert>
  Napi::Value promise(Napi::Env env, Compute compute, Convert convert);

  std::shared_ptr<State> state_;
  std::unique_ptr<EngineThread> thread_;
  BackendInfo backend_info_;
  std::shared_ptr<LoadProgress> progress_ = std::make_shared<LoadProgress>();  // of all models
  uint32_t next_handle_ = 1;
};

}  // namespace ardiff::addon
