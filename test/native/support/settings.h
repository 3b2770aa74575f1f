// Backends and dtypes that this build and this processor have.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "backend/backend.h"
#include "base/error.h"

namespace ardiff::testing_support {

struct Setting {
  std::string backend, dtype;
};

inline std::vector<Setting> settings() {
  std::vector<Setting> out = {{"reference", "float32"}};
#if ARDIFF_WITH_CPU
  out.push_back({"cpu", "float32"});
  try {
    make_backend({"cpu", "bfloat16", 1});
    out.push_back({"cpu", "bfloat16"});
  } catch (const Error&) {
    // This processor multiplies no bfloat16; asking for it is an error, tested with the backend.
  }
#endif
#if ARDIFF_WITH_CUDA
  for (const char* dtype : {"float32", "bfloat16"}) {
    try {
      make_backend({"cuda", dtype, 1});
      out.push_back({"cuda", dtype});
    } catch (const Error&) {
      // No device here; cuda_device_test says so, and fails where one was expected.
    }
  }
#endif
  return out;
}

inline std::string setting_name(const testing::TestParamInfo<Setting>& info) { return info.param.backend + "_" + info.param.dtype; }

}  // namespace ardiff::testing_support
