// Runs every case of a golden folder through the C++ engine, driven by its manifest and config alone (the format
// is described in test/golden/README.md). The TypeScript twin (src/cli/golden.ts) does the same through the addon.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "backend/backend.h"

namespace ardiff::golden {

struct Outcome {
  std::string test_case;
  std::string tensor;
  double error;      // max |a - b| / max(1, max |expected|)
  double rms_error;  // RMS(a - b) / RMS(expected)
  double tolerance;
};

// Throws Error for a folder that is broken or of another family.
std::vector<Outcome> run(const std::filesystem::path& directory, Backend& backend);

}  // namespace ardiff::golden
