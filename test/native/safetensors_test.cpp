// The container parser: what it accepts, and what every kind of broken or lying file is answered with.
#include "io/safetensors.h"

#include <gtest/gtest.h>

#include <cstring>

#include "expect_error.h"

namespace ardiff {
namespace {

std::string container(const std::string& header, size_t data_bytes) {
  std::string file(8, '\0');
  const uint64_t size = header.size();
  std::memcpy(file.data(), &size, 8);
  file += header;
  for (size_t i = 0; i < data_bytes; ++i) file.push_back(static_cast<char>(i));
  return file;
}

std::map<std::string, HostTensor> parse(const std::string& file) {
  return parse_safetensors({reinterpret_cast<const std::byte*>(file.data()), file.size()}, "test.safetensors");
}

TEST(Safetensors, ReadsEveryDtypeTheEngineUses) {
  const std::string file = container(
      R"({"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2,1],"data_offsets":[0,8]},)"
      R"("b":{"dtype":"BF16","shape":[3],"data_offsets":[8,14]},"c":{"dtype":"F16","shape":[],"data_offsets":[14,16]},)"
      R"("d":{"dtype":"I32","shape":[1],"data_offsets":[16,20]}})",
      20);
  const auto tensors = parse(file);
  ASSERT_EQ(tensors.size(), 4u);
  EXPECT_EQ(tensors.at("a").shape, (Shape{2, 1}));
  EXPECT_EQ(tensors.at("b").dtype, DType::kBF16);
  EXPECT_EQ(tensors.at("c").shape.rank(), 0);
  EXPECT_EQ(static_cast<const char*>(tensors.at("d").data) - file.data(), static_cast<std::ptrdiff_t>(file.size()) - 4);
}

TEST(Safetensors, LeavesOutWhatIsNeverAWeight) {
  const auto tensors = parse(container(
      R"({"a":{"dtype":"I64","shape":[1],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[1,1,1,1,1],"data_offsets":[8,12]},)"
      R"("c":{"dtype":"F32","shape":[0,99999999999],"data_offsets":[12,12]}})",
      12));
  EXPECT_TRUE(tensors.empty());
}

struct BrokenFile {
  const char* what;
  std::string file;
  const char* message;  // part of the error
};

class Broken : public testing::TestWithParam<BrokenFile> {};

TEST_P(Broken, IsAnErrorThatNamesThePlace) {
  expect_error([&] { parse(GetParam().file); }, ErrorCode::kInvalidModel, GetParam().message);
}

INSTANTIATE_TEST_SUITE_P(
    Safetensors, Broken,
    testing::Values(
        BrokenFile{"Empty", "", "too short"}, BrokenFile{"HeaderLongerThanFile", container("{}", 0).substr(0, 9), "exceeds the file"},
        BrokenFile{"HeaderLengthOverflows", std::string(8, '\xff') + "{}", "exceeds the file"},
        BrokenFile{"NotJson", container("{\"a\":", 0), "is not JSON"}, BrokenFile{"NotAnObject", container("[]", 0), "not a JSON object"},
        BrokenFile{"UnknownDtype", container(R"({"a":{"dtype":"F33","shape":[1],"data_offsets":[0,4]}})", 4), "'a': unknown dtype F33"},
        BrokenFile{"NoShape", container(R"({"a":{"dtype":"F32","data_offsets":[0,4]}})", 4), "no shape"},
        BrokenFile{"NegativeDimension", container(R"({"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}})", 4), "not an unsigned"},
        BrokenFile{"FractionalDimension", container(R"({"a":{"dtype":"F32","shape":[1.5],"data_offsets":[0,4]}})", 4), "not an unsigned"},
        BrokenFile{"Truncated", container(R"({"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}})", 12), "outside the file's 12"},
        BrokenFile{"BackwardOffsets", container(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}})", 4), "outside the file"},
        BrokenFile{"ShapeLies", container(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}})", 8), "need 8 bytes"},
        BrokenFile{"ProductOverflows",
                   container(R"({"a":{"dtype":"F32","shape":[4294967296,4294967296,4294967296],"data_offsets":[0,4]}})", 4), "needs more than"},
        BrokenFile{"Overlap",
                   container(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})", 8),
                   "overlaps"},
        BrokenFile{"SameBegin",
                   container(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})", 8),
                   "overlaps"},
        BrokenFile{"ManyDimensions", container(R"({"a":{"dtype":"F32","shape":[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1],"data_offsets":[0,4]}})", 4),
                   "rank 17"}),
    [](const auto& test) { return test.param.what; });

TEST(Safetensors, EveryTruncationOfAGoodFileIsAnErrorOrComplete) {
  const std::string file = container(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", 8);
  for (size_t size = 0; size < file.size(); ++size) EXPECT_THROW(parse(file.substr(0, size)), Error) << size;
}

}  // namespace
}  // namespace ardiff
