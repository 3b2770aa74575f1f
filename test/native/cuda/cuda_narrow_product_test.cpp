// Convolutions to few channels (native/backend/cuda/product_narrow.cu): the same bits as those channels have among more, whose kernel
// op_conformance_test compares with the reference, and as every image has by itself.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>

#include "expect_error.h"
#include "support/cuda_device.h"
#include "support/op_fixture.h"

namespace ardiff::test {
namespace {

struct Picture {
  int64_t images, height, width, in, out;
};

class CudaNarrowProduct : public testing::Test {
 protected:
  static constexpr int64_t kMore = 20, kTaps = 9;  // channels of the kernel that is compared with

  void SetUp() override {
    (void)made_on_cuda([this] { backend_ = make_backend({.name = "cuda", .dtype = "bfloat16", .graphs = false}); });
  }
  // Channels of `out` of the result (images, height, width, kMore) or of its first ones.
  static std::vector<float> first_channels(const std::vector<float>& of, int64_t all, int64_t out) {
    std::vector<float> picked;
    for (auto pixel = of.begin(); pixel != of.end(); pixel += all) picked.insert(picked.end(), pixel, pixel + out);
    return picked;
  }
  // The convolution to the first `out` of kMore channels, whose weights, biases and results before are given.
  std::vector<float> convolve(const Picture& s, int64_t out, bool doubled, bool adds, const std::vector<float>& x) {
    Backend& b = *backend_;
    const std::vector<float> weight(weight_.begin(), weight_.begin() + out * s.in * kTaps), bias(bias_.begin(), bias_.begin() + out);
    const auto w = b.prepare_conv2d(host(weight, {out, s.in, 3, 3}), host(bias, {out}), ConvPadding::kSame);
    const int64_t scale = doubled ? 2 : 1;
    const Shape from{s.images, s.height, s.width, s.in}, to{s.images, s.height * scale, s.width * scale, out};
    const Tensor y = f32(b, to, first_channels({before_.begin(), before_.begin() + to.size() / out * kMore}, kMore, out));
    if (doubled) {
      b.upsample_conv2d(f32(b, from, x), *w, y);
    } else {
      b.conv2d(act(b, from, x), *w, y, adds ? Epilogue::add() : Epilogue::store());
    }
    return get(b, y);
  }
  static void expect_same(const std::vector<float>& got, const std::vector<float>& expected, const std::string& what) {
    ASSERT_EQ(got.size(), expected.size()) << what;
    size_t different = 0, first = 0;
    for (size_t i = 0; i < got.size(); ++i) {
      if (std::memcmp(&got[i], &expected[i], sizeof(float)) != 0 && different++ == 0) first = i;
    }
    EXPECT_EQ(different, 0u) << what << ": result " << first << " of " << got.size() << " is " << got[first] << ", expected "
                             << expected[first];
    EXPECT_LT(std::count(expected.begin(), expected.end(), 0.0f), static_cast<std::ptrdiff_t>(got.size() / 2 + 1)) << what;
  }

  std::unique_ptr<Backend> backend_;
  Values values_;
  std::vector<float> weight_, bias_, before_;
};

// One pixel; strips of the result that are full, one pixel more, and not full, beside and below each other; every number of channels.
TEST_F(CudaNarrowProduct, TheBitsOfChannelsAmongMore) {
  for (const Picture& s : {Picture{1, 1, 1, 16, 3},
                           {1, 16, 32, 32, 3},
                           {1, 9, 18, 128, 3},
                           {2, 17, 33, 48, 3},
                           {3, 5, 7, 32, 1},
                           {1, 40, 3, 64, 4},
                           {2, 3, 35, 80, 5},
                           {1, 34, 31, 32, 8},
                           {1, 7, 5, 256, 7},
                           {1, 6, 9, 272, 2}}) {
    weight_ = values_.normal(kMore * s.in * kTaps, 0.1f), bias_ = values_.normal(kMore);
    before_ = values_.normal(s.images * s.height * s.width * 4 * kMore);
    const auto x = values_.normal(s.images * s.height * s.width * s.in);
    const std::string name =
        std::to_string(s.in) + " to " + std::to_string(s.out) + " at " + std::to_string(s.height) + " x " + std::to_string(s.width);
    for (const bool adds : {false, true}) {
      expect_same(convolve(s, s.out, false, adds, x), first_channels(convolve(s, kMore, false, adds, x), kMore, s.out),
                  name + (adds ? ", added" : ""));
    }
    expect_same(convolve(s, s.out, true, false, x), first_channels(convolve(s, kMore, true, false, x), kMore, s.out), name + ", doubled");
  }
}

TEST_F(CudaNarrowProduct, AnImageHasTheSameBitsAlone) {
  const Picture s{3, 19, 37, 64, 3};
  weight_ = values_.normal(kMore * s.in * kTaps, 0.1f), bias_ = values_.normal(kMore);
  before_ = values_.normal(s.images * s.height * s.width * kMore);
  const int64_t in = s.height * s.width * s.in, out = s.height * s.width * s.out;
  const auto x = values_.normal(s.images * in);
  const auto together = convolve(s, s.out, false, false, x);
  for (int64_t i = 0; i < s.images; ++i) {
    const auto alone = convolve({1, s.height, s.width, s.in, s.out}, s.out, false, false, {x.begin() + i * in, x.begin() + (i + 1) * in});
    expect_same(alone, {together.begin() + i * out, together.begin() + (i + 1) * out}, "image " + std::to_string(i));
  }
}

}  // namespace
}  // namespace ardiff::test
