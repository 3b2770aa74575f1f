#include "speculation/philox_source.h"

#include <algorithm>

#include "base/error.h"

namespace ardiff::speculation {

PhiloxSource::PhiloxSource(uint64_t seed, int64_t first_token, std::vector<uint32_t> attempts)
    : seed_(seed), first_token_(first_token), attempts_(std::move(attempts)) {}

PhiloxCounters PhiloxSource::counters(int64_t token, int64_t step) const {
  check(token >= 0 && token < static_cast<int64_t>(attempts_.size()), ErrorCode::kInternal, "random numbers of token ", token, " of a chain of ",
        attempts_.size());
  return {{static_cast<uint32_t>(seed_), static_cast<uint32_t>(seed_ >> 32)}, static_cast<uint32_t>(first_token_ + token),
          attempts_[static_cast<size_t>(token)], static_cast<uint32_t>(step)};
}

double PhiloxSource::accept_uniform(int64_t token, int64_t step) { return counters(token, step).accept_uniform(); }

std::array<double, 4> PhiloxSource::residual_uniforms(int64_t token, int64_t step, uint32_t proposal) {
  return counters(token, step).residual_uniforms(proposal);
}

void PhiloxSource::orthogonal_normals(int64_t token, int64_t step, std::span<double> out) {
  const PhiloxCounters from = counters(token, step);
  for (size_t begin = 0; begin < out.size(); begin += 4) {
    const auto normals = from.orthogonal_normals(static_cast<uint32_t>(begin / 4));
    std::copy_n(normals.begin(), std::min<size_t>(4, out.size() - begin), out.begin() + static_cast<std::ptrdiff_t>(begin));
  }
}

}  // namespace ardiff::speculation
