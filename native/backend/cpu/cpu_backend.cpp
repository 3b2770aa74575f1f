#include "backend/cpu/cpu_backend.h"

namespace ardiff {

std::unique_ptr<Backend> make_cpu_backend(const BackendOptions&) {
  fail(ErrorCode::kInvalidArgument, "the cpu backend is not written yet");
}

}  // namespace ardiff
