#include "speculation/philox_source.h"

#include <algorithm>

#include "backend/philox.h"
#include "base/error.h"

namespace ardiff::speculation {

namespace {

constexpr uint32_t kPurposeAccept = 2;
constexpr uint32_t kPurposeResidual = 3;
constexpr uint32_t kPurposeOrthogonal = 4;

}  // namespace

PhiloxSource::PhiloxSource(uint64_t seed, int64_t first_token, std::vector<uint32_t> attempts)
    : seed_(seed), first_token_(first_token), attempts_(std::move(attempts)) {}

std::array<uint32_t, 4> PhiloxSource::words(uint32_t block, uint32_t purpose, int64_t token, int64_t step) const {
  check(token >= 0 && token < static_cast<int64_t>(attempts_.size()), ErrorCode::kInternal, "random numbers of token ", token, " of a chain of ",
        attempts_.size());
  const auto image_token = static_cast<uint32_t>(first_token_ + token);
  return philox4x32({block, static_cast<uint32_t>(step) | purpose << 16, image_token, attempts_[static_cast<size_t>(token)]},
                    {static_cast<uint32_t>(seed_), static_cast<uint32_t>(seed_ >> 32)});
}

double PhiloxSource::accept_uniform(int64_t token, int64_t step) { return philox_uniform(words(0, kPurposeAccept, token, step)[0]); }

std::array<double, 4> PhiloxSource::residual_uniforms(int64_t token, int64_t step, uint32_t proposal) {
  const PhiloxWords w = words(proposal, kPurposeResidual, token, step);
  return {philox_uniform(w[0]), philox_uniform(w[1]), philox_uniform(w[2]), philox_uniform(w[3])};
}

void PhiloxSource::orthogonal_normals(int64_t token, int64_t step, std::span<double> out) {
  for (size_t begin = 0; begin < out.size(); begin += 4) {
    const auto normals = philox_normals(words(static_cast<uint32_t>(begin / 4), kPurposeOrthogonal, token, step));
    std::copy_n(normals.begin(), std::min<size_t>(4, out.size() - begin), out.begin() + static_cast<std::ptrdiff_t>(begin));
  }
}

}  // namespace ardiff::speculation
