#include "addon/js_error.h"

#include <new>

namespace ardiff::addon {

namespace {

Napi::Error make(Napi::Env env, ErrorCode code, const std::string& message) {
  Napi::Error error = Napi::Error::New(env, message);
  error.Set("code", Napi::String::New(env, error_code_name(code)));
  return error;
}

}  // namespace

Napi::Error to_js_error(Napi::Env env, const std::exception_ptr& failure) {
  try {
    std::rethrow_exception(failure);
  } catch (const Error& error) {
    return make(env, error.code(), error.what());
  } catch (const std::bad_alloc&) {
    return make(env, ErrorCode::kOutOfMemory, "out of memory");
  } catch (const std::exception& error) {
    return make(env, ErrorCode::kInternal, error.what());
  } catch (...) {
    return make(env, ErrorCode::kInternal, "unknown native failure");
  }
}

}  // namespace ardiff::addon
