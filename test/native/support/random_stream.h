// Random numbers of a test, one after the other: the same on every machine, unlike std::normal_distribution.
#pragma once

#include <array>
#include <cstdint>

#include "backend/philox.h"
#include "speculation/random_source.h"

namespace ardiff::test {

class RandomStream {
 public:
  explicit RandomStream(uint64_t seed) : key_{static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)} {}

  double uniform() {
    if (used_words_ == 4) words_ = next(), used_words_ = 0;
    return philox_uniform(words_[used_words_++]);
  }
  double normal() {
    if (used_normals_ == 4) normals_ = philox_normals(next()), used_normals_ = 0;
    return normals_[used_normals_++];
  }

 private:
  PhiloxWords next() {
    ++block_;
    return philox4x32({static_cast<uint32_t>(block_), static_cast<uint32_t>(block_ >> 32), 0x7e57, 0}, key_);
  }

  PhiloxKey key_;
  uint64_t block_ = 0;
  PhiloxWords words_{};
  std::array<double, 4> normals_{};
  size_t used_words_ = 4, used_normals_ = 4;
};

// What a verifier asks for, taken from a stream: fresh numbers at every call.
class StreamSource final : public speculation::RandomSource {
 public:
  explicit StreamSource(RandomStream& stream) : stream_(stream) {}
  double accept_uniform(int64_t, int64_t) override { return stream_.uniform(); }
  std::array<double, 4> residual_uniforms(int64_t, int64_t, uint32_t) override {
    ++proposals;
    return {stream_.uniform(), stream_.uniform(), stream_.uniform(), stream_.uniform()};
  }
  void orthogonal_normals(int64_t, int64_t, std::span<double> out) override {
    for (double& value : out) value = stream_.normal();
  }
  int64_t proposals = 0;

 private:
  RandomStream& stream_;
};

}  // namespace ardiff::test
