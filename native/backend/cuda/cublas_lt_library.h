// libcublasLt, loaded when it is asked for: nothing links it, and a machine without it has everything but this.
#pragma once

#include <memory>
#include <string>

#include "backend/cuda/cublas_lt_abi.h"

namespace ardiff::cuda::lt {

struct Library {
#define ARDIFF_MEMBER(name, result, parameters) result(*name) parameters = nullptr;
  ARDIFF_CUBLAS_LT_FUNCTIONS(ARDIFF_MEMBER)
#undef ARDIFF_MEMBER

  std::string version() const;  // "13.1.1"
  // Throws kOutOfMemory where the library had no memory, kInternal otherwise, naming what was done and the library's own word for it.
  void check(Status status, const char* what) const;
};

// Whether the dynamic linker finds one by its names.
bool is_there();

// path: empty, or where the library lies. Empty: by its names, that of the toolkit's version first, in the folders of the dynamic
// linker. Stays loaded. Throws kInvalidArgument with what the linker says, or with the function that it lacks.
std::shared_ptr<const Library> load_library(const std::string& path);

}  // namespace ardiff::cuda::lt
