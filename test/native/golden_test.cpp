// Every golden folder of the repository, on every compiled backend, through the C++ library.
#include <gtest/gtest.h>

#include "golden_runner.h"

namespace ardiff {
namespace {

class Golden : public testing::TestWithParam<std::tuple<std::string, std::string>> {};

TEST_P(Golden, EveryCaseWithinItsTolerance) {
  const auto& [folder, backend_name] = GetParam();
  const auto backend = make_backend({.name = backend_name, .dtype = "float32", .threads = 2});
  const auto outcomes = golden::run(std::filesystem::path(ARDIFF_GOLDEN_DIR) / folder, *backend);
  ASSERT_FALSE(outcomes.empty());
  for (const auto& outcome : outcomes) {
    std::printf("  %-40s %-28s %.1e of %.0e\n", outcome.test_case.c_str(), outcome.tensor.c_str(), outcome.error, outcome.tolerance);
    EXPECT_LE(outcome.error, outcome.tolerance) << outcome.test_case << ": " << outcome.tensor;
  }
}

std::vector<std::string> backends() {
#if ARDIFF_WITH_CPU
  return {"reference", "cpu"};
#else
  return {"reference"};
#endif
}

INSTANTIATE_TEST_SUITE_P(Folders, Golden, testing::Combine(testing::Values("nextstep-tiny"), testing::ValuesIn(backends())));

}  // namespace
}  // namespace ardiff
