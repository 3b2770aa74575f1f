// Registration. No state outside the class: the addon may be loaded by several worker threads at once.
#include <napi.h>

#include "addon/convert.h"
#include "addon/engine_wrap.h"
#include "addon/js_error.h"
#include "engine/step_plan.h"

namespace {

Napi::Value cuda_devices(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return ardiff::addon::guarded(env, [env]() -> Napi::Value { return ardiff::addon::from_cuda_devices(env, ardiff::cuda_devices()); });
}

Napi::Object initialise(Napi::Env env, Napi::Object exports) {
  exports.Set("abiVersion", Napi::Number::New(env, ardiff::kAbiVersion));
  exports.Set("cudaDevices", Napi::Function::New<cuda_devices>(env, "cudaDevices"));
  exports.Set("Engine", ardiff::addon::EngineWrap::define(env));
  return exports;
}

}  // namespace

NODE_API_MODULE(fast_ardiff, initialise)
