// Every golden folder of the repository, on every compiled backend, through the C++ library.
#include <gtest/gtest.h>

#include <cctype>

#include "golden_runner.h"
#include "io/json_file.h"
#include "support/golden_dir.h"
#include "support/settings.h"

namespace ardiff {
namespace {

class Golden : public testing::TestWithParam<std::tuple<std::string, std::string>> {};

TEST_P(Golden, EveryCaseWithinItsTolerance) {
  const auto& [folder, backend_name] = GetParam();
  const auto backend = make_backend({.name = backend_name, .dtype = "float32", .threads = 2});
  const auto outcomes = golden::run(testing_support::golden_dir() / folder, *backend);
  ASSERT_FALSE(outcomes.empty());
  for (const auto& outcome : outcomes) {
    std::printf("  %-40s %-28s %.1e of %.0e\n", outcome.test_case.c_str(), outcome.tensor.c_str(), outcome.error, outcome.tolerance);
    EXPECT_LE(outcome.error, outcome.tolerance) << outcome.test_case << ": " << outcome.tensor;
  }
}

std::vector<std::string> backends(const std::string& dtype) {
  std::vector<std::string> out;
  for (const testing_support::Setting& setting : testing_support::settings()) {
    if (setting.dtype == dtype) out.push_back(setting.backend);
  }
  return out;
}

std::string name_of(const testing::TestParamInfo<std::tuple<std::string, std::string>>& info) {
  std::string name = std::get<0>(info.param) + "_" + std::get<1>(info.param);
  for (char& letter : name) letter = std::isalnum(static_cast<unsigned char>(letter)) ? letter : '_';
  return name;
}

// The bfloat16 mode is judged by how far it is from float32, beside PyTorch's bfloat16 on the same weights and inputs
// (bf16_bar.json, recorded by test/golden/bf16_bar.py and record_transdiff.py).
class GoldenBfloat16 : public testing::TestWithParam<std::tuple<std::string, std::string>> {};
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(GoldenBfloat16);  // a build or processor without bfloat16

TEST_P(GoldenBfloat16, ErrorAtMostOneAndAHalfOfPyTorchs) {
  const auto& [name, backend_name] = GetParam();
  const auto backend = make_backend({.name = backend_name, .dtype = "bfloat16", .threads = 2});
  const auto folder = testing_support::golden_dir() / name;
  const auto bar = read_json_file(folder / "bf16_bar.json").at("tensors");
  size_t judged = 0;
  for (const auto& outcome : golden::run(folder, *backend)) {
    if (!bar.contains(outcome.tensor)) continue;
    const double pytorch = bar.at(outcome.tensor);
    std::printf("  %-20s %.5f, PyTorch %.5f, ratio %.2f\n", outcome.tensor.c_str(), outcome.rms_error, pytorch, outcome.rms_error / pytorch);
    EXPECT_LE(outcome.rms_error, 1.5 * pytorch) << outcome.tensor;
    EXPECT_GT(outcome.rms_error, 1e-4) << outcome.tensor << ": this was not computed in bfloat16";
    ++judged;
  }
  EXPECT_EQ(judged, bar.size());
}

INSTANTIATE_TEST_SUITE_P(Folders, GoldenBfloat16, testing::Combine(testing::Values("nextstep-tiny", "transdiff-mrar", "transdiff-one-pass"), testing::ValuesIn(backends("bfloat16"))), name_of);
INSTANTIATE_TEST_SUITE_P(Folders, Golden, testing::Combine(testing::Values("nextstep-tiny", "transdiff-mrar", "transdiff-one-pass"), testing::ValuesIn(backends("float32"))), name_of);
// What train/ recorded of its own networks, few-step networks and draft model (train/golden.py, train/transdiff_golden.py).
INSTANTIATE_TEST_SUITE_P(Train, Golden,
                         testing::Combine(testing::Values("../../train/golden", "../../train/golden/accelerator", "../../train/golden-transdiff",
                                                          "../../train/golden-transdiff/accelerator"),
                                          testing::ValuesIn(backends("float32"))),
                         name_of);

}  // namespace
}  // namespace ardiff
