// Expects `body` to throw an ardiff::Error of this code whose message contains `part`.
#pragma once

#include <gtest/gtest.h>

#include <string>

#include "base/error.h"

namespace ardiff {

template <typename Body>
void expect_error(Body&& body, ErrorCode code, const std::string& part) {
  try {
    body();
    ADD_FAILURE() << "nothing was thrown; expected " << error_code_name(code) << " with '" << part << "'";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code) << error.what();
    EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << "message: " << error.what() << "\nexpected part: " << part;
  }
}

}  // namespace ardiff
