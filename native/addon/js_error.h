// Engine errors as JavaScript errors: the same code under `error.code`.
#pragma once

#include <exception>

#include <napi.h>

#include "base/error.h"

namespace ardiff::addon {

// An Error object with message and code. Codes other than the engine's own become "internal".
Napi::Error to_js_error(Napi::Env env, const std::exception_ptr& failure);

// Runs `body` and turns anything it throws (but JavaScript's own exceptions) into a thrown JavaScript error.
template <typename Body>
auto guarded(Napi::Env env, Body&& body) {
  try {
    return body();
  } catch (const Napi::Error&) {
    throw;
  } catch (...) {
    throw to_js_error(env, std::current_exception());
  }
}

}  // namespace ardiff::addon
