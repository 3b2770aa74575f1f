// Tests that need a CUDA device are skipped where there is none; with ARDIFF_EXPECT_CUDA=1, where one should be, they fail.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <string_view>

#include "base/error.h"

namespace ardiff::test {

// make(), which makes backends. False if there is no device for them: the test is then over, and its SetUp returns.
template <typename Make>
bool made_on_cuda(Make&& make) {
  try {
    make();
    return true;
  } catch (const Error& error) {
    [&error] {
      EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument) << error.what();
      const char* expected = std::getenv("ARDIFF_EXPECT_CUDA");
      ASSERT_FALSE(expected != nullptr && std::string_view(expected) == "1") << error.what();
      GTEST_SKIP() << "no CUDA device: " << error.what();
    }();
    return false;
  }
}

}  // namespace ardiff::test
