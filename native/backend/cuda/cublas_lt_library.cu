#include "backend/cuda/cublas_lt_library.h"

#include <dlfcn.h>

#include <vector>

#include "backend/cuda/device.h"

namespace ardiff::cuda::lt {

namespace {

// Handles of the driver are the same for all of them; a library of the toolkit's own version comes first.
std::vector<std::string> usual_names() {
  const int major = CUDART_VERSION / 1000;
  std::vector<std::string> names = {"libcublasLt.so." + std::to_string(major)};
  for (const int other : {13, 12}) {
    if (other != major) names.push_back("libcublasLt.so." + std::to_string(other));
  }
  names.push_back("libcublasLt.so");
  return names;
}

// Null where there is none, and problem what the linker says.
void* open(const std::string& path, std::string& problem) {
  for (const std::string& name : path.empty() ? usual_names() : std::vector{path}) {
    if (void* const handle = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL)) return handle;
    const char* const said = dlerror();
    problem += (problem.empty() ? "" : "; ") + std::string(said != nullptr ? said : name.c_str());
  }
  return nullptr;
}

}  // namespace

std::string Library::version() const {
  const size_t number = GetVersion();
  return std::to_string(number / 10000) + "." + std::to_string(number / 100 % 100) + "." + std::to_string(number % 100);
}

void Library::check(Status status, const char* what) const {
  if (status == kSuccess) [[likely]] return;
  fail(status == kAllocFailed ? ErrorCode::kOutOfMemory : ErrorCode::kInternal, "cuBLASLt: ", what, ": ", GetStatusName(status));
}

bool is_there() {
#if defined(ARDIFF_CUDA_EMULATION)
  return false;  // a real one would ask for a real device
#else
  std::string problem;
  return open("", problem) != nullptr;
#endif
}

std::shared_ptr<const Library> load_library(const std::string& path) {
  std::string problem;
  void* const handle = open(path, problem);
  ardiff::check(handle != nullptr, ErrorCode::kInvalidArgument, "cuBLASLt was asked for (ARDIFF_CUDA_BLASLT) and cannot be loaded: ", problem);
  auto library = std::make_shared<Library>();
  const auto find = [&](const char* name) {
    void* const symbol = dlsym(handle, name);
    ardiff::check(symbol != nullptr, ErrorCode::kInvalidArgument, "cuBLASLt was asked for (ARDIFF_CUDA_BLASLT), and ", path.empty() ? "libcublasLt" : path,
                  " has no ", name);
    return symbol;
  };
#define ARDIFF_FIND(name, result, parameters) library->name = reinterpret_cast<result(*) parameters>(find("cublasLt" #name));
  ARDIFF_CUBLAS_LT_FUNCTIONS(ARDIFF_FIND)
#undef ARDIFF_FIND
  return library;
}

}  // namespace ardiff::cuda::lt
