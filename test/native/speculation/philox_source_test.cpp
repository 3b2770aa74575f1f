// The counters that docs/contract.md promises, and that they do not depend on the order of asking.
#include "speculation/philox_source.h"

#include <gtest/gtest.h>

#include "backend/philox.h"
#include "base/error.h"

namespace ardiff::speculation {
namespace {

constexpr uint64_t kSeed = (uint64_t{5} << 32) | 77;
const PhiloxKey kKey = {77, 5};

TEST(PhiloxSource, Counters) {
  PhiloxSource source(kSeed, 40, {0, 3});
  EXPECT_EQ(source.accept_uniform(0, 0), philox_uniform(philox4x32({0, 2u << 16, 40, 0}, kKey)[0]));
  EXPECT_EQ(source.accept_uniform(1, 7), philox_uniform(philox4x32({0, 7 | 2u << 16, 41, 3}, kKey)[0]));
  const PhiloxWords words = philox4x32({9, 7 | 3u << 16, 41, 3}, kKey);
  const auto uniforms = source.residual_uniforms(1, 7, 9);
  for (size_t i = 0; i < 4; ++i) EXPECT_EQ(uniforms[i], philox_uniform(words[i]));
  std::vector<double> normals(7);
  source.orthogonal_normals(1, 7, normals);
  for (uint32_t i = 0; i < 7; ++i) EXPECT_EQ(normals[i], philox_normals(philox4x32({i / 4, 7 | 4u << 16, 41, 3}, kKey))[i % 4]);
}

TEST(PhiloxSource, HasNoState) {
  PhiloxSource a(1, 0, {0, 0}), b(1, 0, {0, 0});
  const double first = a.accept_uniform(0, 3);
  a.residual_uniforms(1, 2, 0);
  b.residual_uniforms(1, 2, 0);
  b.accept_uniform(1, 1);
  EXPECT_EQ(b.accept_uniform(0, 3), first);
  EXPECT_EQ(a.accept_uniform(0, 3), first);
  EXPECT_EQ(a.residual_uniforms(1, 2, 5), b.residual_uniforms(1, 2, 5));
}

TEST(PhiloxSource, RefusesTokensOutsideOfTheChain) {
  PhiloxSource source(1, 0, {0});
  EXPECT_THROW(source.accept_uniform(1, 0), Error);
  EXPECT_THROW(source.accept_uniform(-1, 0), Error);
}

}  // namespace
}  // namespace ardiff::speculation
