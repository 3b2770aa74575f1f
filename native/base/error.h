// The one error type of the engine. Codes are those of src/engine/native-types.ts (NativeErrorCode) and
// travel unchanged to the HTTP answer.
#pragma once

#include <sstream>
#include <stdexcept>
#include <string>
#include <utility>

namespace ardiff {

enum class ErrorCode { kInvalidArgument, kInvalidPlan, kInvalidModel, kOutOfMemory, kClosed, kInternal };

// The code as JavaScript sees it, e.g. "invalid_plan".
inline const char* error_code_name(ErrorCode code) {
  switch (code) {
    case ErrorCode::kInvalidArgument: return "invalid_argument";
    case ErrorCode::kInvalidPlan: return "invalid_plan";
    case ErrorCode::kInvalidModel: return "invalid_model";
    case ErrorCode::kOutOfMemory: return "out_of_memory";
    case ErrorCode::kClosed: return "closed";
    case ErrorCode::kInternal: return "internal";
  }
  return "internal";
}

class Error : public std::runtime_error {
 public:
  Error(ErrorCode code, const std::string& message) : std::runtime_error(message), code_(code) {}
  ErrorCode code() const { return code_; }

 private:
  ErrorCode code_;
};

// Throws Error{code} with the arguments streamed into one message.
template <typename... Args>
[[noreturn]] void fail(ErrorCode code, Args&&... args) {
  std::ostringstream message;
  (message << ... << std::forward<Args>(args));
  throw Error(code, message.str());
}

template <typename... Args>
void check(bool condition, ErrorCode code, Args&&... args) {
  if (!condition) [[unlikely]] fail(code, std::forward<Args>(args)...);
}

}  // namespace ardiff
