#include <algorithm>

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
      const auto normals = philox_normals(philox4x32({static_cast<uint32_t>(begin / 4), word(2), word(3), word(4)}, {word(0), word(1)}));
      for (int64_t c = begin; c < std::min(begin + 4, y.cols()); ++c) {
        reference::store(y, m, c, static_cast<float>(normals[static_cast<size_t>(c - begin)]));
      }
    }
  }
}

}  // namespace ardiff
