// Registration. No state outside the class: the addon may be loaded by several worker threads at once.
#include <napi.h>

#include "addon/engine_wrap.h"
#include "engine/step_plan.h"

namespace {

Napi::Object initialise(Napi::Env env, Napi::Object exports) {
  exports.Set("abiVersion", Napi::Number::New(env, ardiff::kAbiVersion));
  exports.Set("Engine", ardiff::addon::EngineWrap::define(env));
  return exports;
}

}  // namespace

NODE_API_MODULE(fast_ardiff, initialise)
