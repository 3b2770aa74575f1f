// TransDiff's golden folders, and names for tests of every setting on both.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <tuple>

#include "support/golden_dir.h"
#include "support/settings.h"

namespace ardiff::testing_support {

// train/'s case: 3 passes, guidance, a grid of 4, classes of 8 tokens and passes of 4, so blocks of 4.
inline const std::filesystem::path kPasses = golden_dir() / "../../train/golden-transdiff";
// Of both.
inline const std::string kClassVae = (kPasses / "vae").string();
inline const std::filesystem::path kOnePass = golden_dir() / "transdiff-one-pass";

using ClassSetting = std::tuple<Setting, std::filesystem::path>;

inline std::string class_setting_name(const testing::TestParamInfo<ClassSetting>& info) {
  const Setting& setting = std::get<0>(info.param);
  return std::string(setting.backend) + "_" + setting.dtype + (std::get<1>(info.param) == kPasses ? "_passes" : "_one_pass");
}

}  // namespace ardiff::testing_support
