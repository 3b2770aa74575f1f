// Where a number of the latent stands among the image tokens: token (row i, column j of the grid), element
// c p² + a p + b for latent row i p + a, column j p + b, channel c (nextstep.md 8). Index arithmetic only, the same
// for every backend in host memory; the golden cases hold it to the released layout.
#pragma once

#include <cstdint>

#include "tensor/tensor_view.h"

namespace ardiff {

// Calls visit(token, element of the token, element of z) for every number of z: (1, h p, w p, C).
template <typename Visit>
void for_each_patch_element(const TensorView& z, int64_t patch, Visit&& visit) {
  const int64_t height = z.shape[1], width = z.shape[2], channels = z.shape[3];
  for (int64_t row = 0; row < height; ++row) {
    for (int64_t column = 0; column < width; ++column) {
      const int64_t token = row / patch * (width / patch) + column / patch;
      const int64_t inside = row % patch * patch + column % patch;
      for (int64_t c = 0; c < channels; ++c) visit(token, c * patch * patch + inside, (row * width + column) * channels + c);
    }
  }
}

}  // namespace ardiff
