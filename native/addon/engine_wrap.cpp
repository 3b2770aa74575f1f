#include "addon/engine_wrap.h"

#include <optional>

#include "addon/convert.h"
#include "addon/js_error.h"

namespace ardiff::addon {

std::shared_ptr<Engine> EngineWrap::State::find(uint32_t handle) {
  const std::lock_guard lock(mutex);
  const auto found = models.find(handle);
  check(found != models.end(), ErrorCode::kInvalidArgument, "no model has handle ", handle);
  return found->second;
}

Napi::Function EngineWrap::define(Napi::Env env) {
  return DefineClass(env, "Engine",
                     {InstanceAccessor<&EngineWrap::info>("info"), InstanceAccessor<&EngineWrap::loaded_bytes>("loadedBytes"), InstanceMethod<&EngineWrap::load>("load"),
                      InstanceMethod<&EngineWrap::unload>("unload"), InstanceMethod<&EngineWrap::step>("step"),
                      InstanceMethod<&EngineWrap::probe>("probe"), InstanceMethod<&EngineWrap::cancel>("cancel"),
                      InstanceMethod<&EngineWrap::close>("close")});
}

EngineWrap::EngineWrap(const Napi::CallbackInfo& info) : Napi::ObjectWrap<EngineWrap>(info), state_(std::make_shared<State>()) {
  guarded(info.Env(), [&] {
    const BackendOptions options = to_backend_options(info[0]);
    thread_ = std::make_unique<EngineThread>(info.Env());
    // The backend is made by the thread that will use it (thread counts of OpenMP belong to the calling thread).
    // This takes milliseconds, so the constructor waits and can throw.
    std::promise<BackendInfo> made;
    auto future = made.get_future();
    thread_->post([state = state_, options, &made]() -> EngineThread::Completion {
      try {
        state->backend = make_backend(options);
        made.set_value(state->backend->info());
      } catch (...) {
        made.set_exception(std::current_exception());
      }
      return {};
    });
    backend_info_ = future.get();
  });
}

EngineWrap::~EngineWrap() { shut_down(); }

void EngineWrap::shut_down() {
  if (!thread_) return;
  // Models and backend go where they lived.
  thread_->post([state = state_]() -> EngineThread::Completion {
    {
      const std::lock_guard lock(state->mutex);
      state->models.clear();
    }
    state->backend.reset();
    return {};
  });
  thread_->close();
}

template <typename Compute, typename Convert>
Napi::Value EngineWrap::promise(Napi::Env env, Compute compute, Convert convert) {
  auto deferred = std::make_shared<Napi::Promise::Deferred>(env);
  const Napi::Promise out = deferred->Promise();
  const bool taken = thread_->post([deferred, compute = std::move(compute), convert = std::move(convert)]() -> EngineThread::Completion {
    using Result = decltype(compute());
    auto result = std::make_shared<std::optional<Result>>();
    std::exception_ptr failure;
    try {
      result->emplace(compute());
    } catch (...) {
      failure = std::current_exception();
    }
    return [deferred, result, failure, convert](Napi::Env js) {
      const Napi::HandleScope scope(js);
      if (failure) {
        deferred->Reject(to_js_error(js, failure).Value());
      } else {
        deferred->Resolve(convert(js, std::move(**result)));
      }
    };
  });
  if (!taken) deferred->Reject(to_js_error(env, std::make_exception_ptr(Error(ErrorCode::kClosed, "the engine is closed"))).Value());
  return out;
}

Napi::Value EngineWrap::info(const Napi::CallbackInfo& info) { return from_backend_info(info.Env(), backend_info_); }

Napi::Value EngineWrap::loaded_bytes(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), static_cast<double>(progress_->bytes.load(std::memory_order_relaxed)));
}

Napi::Value EngineWrap::load(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    check(info[0].IsString(), ErrorCode::kInvalidArgument, "directory is not a string");
    const std::string directory = info[0].As<Napi::String>().Utf8Value();
    LoadOptions options = to_load_options(info[1]);
    options.progress = progress_;
    const uint32_t handle = next_handle_++;
    return promise(
        info.Env(),
        [state = state_, directory, options, handle] {
          std::shared_ptr<Engine> engine = load_engine(*state->backend, directory, options);
          ModelInfo model = engine->info();
          const std::lock_guard lock(state->mutex);
          state->models.emplace(handle, std::move(engine));
          return model;
        },
        [handle](Napi::Env env, ModelInfo&& model) -> Napi::Value {
          Napi::Object out = Napi::Object::New(env);
          out.Set("handle", static_cast<double>(handle));
          out.Set("model", from_model_info(env, model));
          return out;
        });
  });
}

Napi::Value EngineWrap::unload(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const uint32_t handle = to_uint32(info[0], "model");
    return promise(
        info.Env(),
        [state = state_, handle] {
          const std::shared_ptr<Engine> engine = state->find(handle);
          const std::lock_guard lock(state->mutex);
          state->models.erase(handle);
          return true;
        },
        [](Napi::Env env, bool&&) -> Napi::Value { return env.Undefined(); });
  });
}

Napi::Value EngineWrap::step(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const uint32_t handle = to_uint32(info[0], "model");
    auto plan = std::make_shared<StepPlan>(to_step_plan(info[1]));
    return promise(
        info.Env(), [state = state_, handle, plan] { return state->find(handle)->step(*plan); },
        [](Napi::Env env, StepResult&& result) -> Napi::Value { return from_step_result(env, std::move(result)); });
  });
}

Napi::Value EngineWrap::probe(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const uint32_t handle = to_uint32(info[0], "model");
    auto request = std::make_shared<ProbeRequest>(to_probe_request(info[1]));
    return promise(
        info.Env(), [state = state_, handle, request] { return state->find(handle)->probe(*request); },
        [](Napi::Env env, HostArrays&& arrays) -> Napi::Value { return from_arrays(env, arrays); });
  });
}

void EngineWrap::cancel(const Napi::CallbackInfo& info) {
  guarded(info.Env(), [&] {
    const uint32_t handle = to_uint32(info[0], "model"), sequence = to_uint32(info[1], "sequence");
    const std::lock_guard lock(state_->mutex);
    const auto found = state_->models.find(handle);
    if (found != state_->models.end()) found->second->cancel(sequence);
  });
}

void EngineWrap::close(const Napi::CallbackInfo&) { shut_down(); }

}  // namespace ardiff::addon
