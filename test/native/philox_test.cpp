// Known answers of Philox 4x32-10 (Salmon et al.) and of the normals made from it (docs/contract.md, Randomness).
#include "backend/philox.h"

#include "support/op_fixture.h"

namespace ardiff::test {
namespace {

TEST(Philox, KnownAnswers) {
  EXPECT_EQ(philox4x32({0, 0, 0, 0}, {0, 0}), (PhiloxWords{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(philox4x32({~0u, ~0u, ~0u, ~0u}, {~0u, ~0u}), (PhiloxWords{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (PhiloxWords{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

struct KnownNormals {
  uint64_t seed;
  uint32_t purpose, timestep, token, attempt;
  int64_t block;
  std::vector<float> normals;
};

class PhiloxNormal : public OpTest {};

TEST_P(PhiloxNormal, KnownAnswers) {
  const KnownNormals known[] = {
      {0, 0, 0, 0, 0, 0, {0.991137680f, -0.924662588f, -0.617608959f, -0.482068587f}},
      {1, 0, 0, 0, 0, 0, {0.380400734f, -0.296277889f, -0.249233423f, -1.003837252f}},
      {1, 1, 27, 63, 0, 15, {0.980759236f, 0.316616327f, 0.019044156f, 0.067931305f}},
      {(uint64_t{1} << 53) - 1, 1, 3, 1023, 2, 7, {-0.764706310f, -0.370691530f, 0.305275742f, -0.466269190f}}};
  for (Backend* b : {reference_.get(), backend_.get()}) {
    for (const KnownNormals& k : known) {
      const std::vector<uint32_t> key = {static_cast<uint32_t>(k.seed), static_cast<uint32_t>(k.seed >> 32), k.timestep | k.purpose << 16, k.token,
                                         k.attempt};
      const Tensor y = b->make(DType::kF32, {1, 64});
      b->philox_normal(put(*b, {1, 5}, std::vector<int32_t>(key.begin(), key.end())), y);
      const auto all = get(*b, y);
      for (size_t i = 0; i < 4; ++i) EXPECT_NEAR(all[static_cast<size_t>(4 * k.block) + i], k.normals[i], 1e-6f) << "seed " << k.seed;
    }
  }
}

TEST_P(PhiloxNormal, AgreesWithTheReferenceEverywhere) {
  constexpr int64_t kRows = 400, kColumns = 1001;  // 400,000 numbers; columns end inside a block
  std::vector<int32_t> keys;
  for (int32_t m = 0; m < kRows; ++m) keys.insert(keys.end(), {m * 7919, m, m % 50, m % 64, m % 3});
  std::vector<std::vector<float>> results;
  for (Backend* b : {reference_.get(), backend_.get()}) {
    const Tensor y = b->make(DType::kF32, {kRows, kColumns});
    b->philox_normal(put(*b, {kRows, 5}, keys), y);
    results.push_back(get(*b, y));
  }
  expect_near(results[0], results[1], DType::kF32, {1e-6f, 0}, "philox_normal");
  double sum = 0.0, squares = 0.0;
  for (float value : results[1]) {
    sum += static_cast<double>(value);
    squares += static_cast<double>(value) * static_cast<double>(value);
  }
  const auto count = static_cast<double>(results[1].size());
  EXPECT_NEAR(sum / count, 0.0, 5.0 / std::sqrt(count));
  EXPECT_NEAR(squares / count, 1.0, 5.0 * std::sqrt(2.0 / count));
}

INSTANTIATE_TEST_SUITE_P(Backends, PhiloxNormal, testing::ValuesIn(variants()), variant_name);

}  // namespace
}  // namespace ardiff::test
