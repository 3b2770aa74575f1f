#include <cmath>

#include "backend/op_checks.h"
#include "backend/philox.h"
#include "backend/reference/elements.h"
#include "backend/reference/reference_backend.h"

namespace ardiff {

void ReferenceBackend::philox_normal(const TensorView& keys, const TensorView& y) {
  op_checks::philox_normal(keys, y);
  for (int64_t m = 0; m < y.rows(); ++m) {
    const int32_t* key = reference::indices(keys) + m * keys.row_stride;
    auto word = [&](int i) { return static_cast<uint32_t>(key[i]); };
    for (int64_t begin = 0; begin < y.cols(); begin += 4) {
      const PhiloxWords words = philox4x32({static_cast<uint32_t>(begin / 4), word(2), word(3), word(4)}, {word(0), word(1)});
      for (int64_t c = begin; c < std::min(begin + 4, y.cols()); ++c) {
        const size_t pair = static_cast<size_t>(c - begin) / 2 * 2;
        const double radius = std::sqrt(-2.0 * std::log(philox_uniform(words[pair])));
        const double angle = 2.0 * M_PI * philox_uniform(words[pair + 1]);
        reference::store(y, m, c, static_cast<float>(radius * ((c - begin) % 2 == 0 ? std::cos(angle) : std::sin(angle))));
      }
    }
  }
}

}  // namespace ardiff
