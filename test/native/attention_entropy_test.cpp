// What the entropy of an attention row means, on rows made for it; agreement and bits are the business of the conformance
// and batch invariance tests.
#include <algorithm>
#include <cmath>

#include "support/op_fixture.h"

namespace ardiff::test {
namespace {

constexpr int64_t kDim = 32;  // one kv head a query head; key p has its score in element p

class AttentionEntropy : public OpTest {
 protected:
  // Rows of weights, one per head, as attention over `weights[h].size()` positions of which `first` are not counted.
  float entropy(const std::vector<std::vector<double>>& weights, int32_t first) {
    const auto heads = static_cast<int64_t>(weights.size()), length = static_cast<int64_t>(weights[0].size());
    const Shape cache{3, heads, 16, kDim};
    std::vector<float> keys(static_cast<size_t>(cache.size()), NAN), q(static_cast<size_t>(heads * kDim), 0.0f);
    const std::vector<int32_t> table = {2, 0};
    for (int64_t h = 0; h < heads; ++h) {
      q[static_cast<size_t>(h * kDim)] = 1.0f;
      for (int64_t p = 0; p < length; ++p) {
        const auto at = static_cast<size_t>(((table[static_cast<size_t>(p / 16)] * heads + h) * 16 + p % 16) * kDim);
        std::fill_n(keys.begin() + static_cast<std::ptrdiff_t>(at), kDim, 0.0f);
        keys[at] = static_cast<float>(std::log(weights[static_cast<size_t>(h)][static_cast<size_t>(p)]) * std::sqrt(static_cast<double>(kDim)));
      }
    }
    Backend& b = *backend_;
    const Tensor k = put(b, b.kv_dtype(), cache, keys), v = b.make(b.kv_dtype(), cache), out = b.make(DType::kF32, {1});
    b.attention_entropy(f32(b, {1, heads * kDim}, q), {k, v}, {put(b, {1, 2}, table), put(b, {0}), put(b, {static_cast<int32_t>(length)})},
                        put(b, {first}), out);
    return get(b, out)[0];
  }
  // Scores are rounded where the cache is bf16; those of equal weights stay equal.
  float tolerance() const { return backend_->kv_dtype() == DType::kBF16 ? 0.02f : 1e-5f; }
};

double entropy_of(const std::vector<double>& p) {
  double sum = 0.0, total = 0.0;
  for (double value : p) total += value;
  for (double value : p) sum -= value / total * std::log(value / total);
  return sum / std::log(static_cast<double>(p.size()));
}

TEST_P(AttentionEntropy, EvenRowIsOneAndSpikeIsZero) {
  for (size_t length : {2, 16, 17, 31}) {
    EXPECT_NEAR(entropy({std::vector<double>(length, 1.0)}, 0), 1.0f, 1e-6f) << length;
    std::vector<double> spike(length, 1e-30);
    spike[length / 2] = 1.0;
    EXPECT_NEAR(entropy({spike}, 0), 0.0f, 1e-6f) << length;
  }
  EXPECT_EQ(entropy({{1.0}}, 0), 0.0f) << "one key says nothing";
  EXPECT_EQ(entropy({{1.0, 2.0, 3.0}}, 2), 0.0f);
  EXPECT_EQ(entropy({{1.0, 2.0, 3.0}}, 3), 0.0f);
}

TEST_P(AttentionEntropy, KeysBeforeTheFirstDoNotCount) {
  const std::vector<double> seen = {0.1, 0.5, 0.2, 0.2};
  const float alone = entropy({seen}, 0);
  EXPECT_NEAR(alone, entropy_of(seen), tolerance());
  for (double before : {1e-6, 1.0, 1e6}) {  // a prompt that attracts everything, or nothing
    std::vector<double> row(18, before);
    row.insert(row.end(), seen.begin(), seen.end());
    EXPECT_NEAR(entropy({row}, 18), alone, 1e-6f);
    EXPECT_GT(std::abs(entropy({row}, 0) - alone), 0.01f);
  }
}

// Mean over heads of entropies, which collapse of single heads lowers; the mean head's entropy would hide it.
TEST_P(AttentionEntropy, IsTheMeanOfTheHeadsAndBelowThatOfTheMeanHead) {
  const std::vector<double> left = {0.97, 0.01, 0.01, 0.01}, right = {0.01, 0.01, 0.01, 0.97};
  const float measured = entropy({left, right}, 0);
  EXPECT_NEAR(measured, 0.5 * (entropy_of(left) + entropy_of(right)), tolerance());
  std::vector<double> mean;
  for (size_t i = 0; i < 4; ++i) mean.push_back(0.5 * (left[i] + right[i]));
  EXPECT_LT(measured, entropy_of(mean) - 0.3);
}

INSTANTIATE_TEST_SUITE_P(Backends, AttentionEntropy, testing::ValuesIn([] {
                           auto all = variants();
                           all.insert(all.begin(), {"reference", [] { return make_backend({"reference", "float32", 1}); }});
                           return all;
                         }()),
                         variant_name);

}  // namespace
}  // namespace ardiff::test
