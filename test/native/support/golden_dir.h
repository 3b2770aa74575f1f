// The golden folder: where the build found it, or where ARDIFF_GOLDEN_DIR says, so that a build runs on another machine.
#pragma once

#include <cstdlib>
#include <filesystem>

namespace ardiff::testing_support {

inline std::filesystem::path golden_dir() {
  const char* elsewhere = std::getenv("ARDIFF_GOLDEN_DIR");
  return elsewhere != nullptr && *elsewhere != '\0' ? elsewhere : ARDIFF_GOLDEN_DIR;
}

}  // namespace ardiff::testing_support
