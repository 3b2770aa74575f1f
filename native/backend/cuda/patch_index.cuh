// Where a number of the latent stands among the image tokens: backend/patches.h as a function of one element.
#pragma once

#include <cstdint>

#include "backend/host_device.h"

namespace ardiff::cuda {

struct PatchShape {
  int width;     // of the latent z (1, h p, w p, C)
  int channels;  // C
  int patch;     // p
};

struct PatchElement {
  int64_t token;
  int column;  // c p² + a p + b
};

// The token and its element that stand at element i of z.
ARDIFF_HD inline PatchElement patch_element(const PatchShape& s, int64_t i) {
  const int c = static_cast<int>(i % s.channels);
  const int64_t pixel = i / s.channels;
  const int column = static_cast<int>(pixel % s.width);
  const int64_t row = pixel / s.width;
  return {row / s.patch * (s.width / s.patch) + column / s.patch, c * s.patch * s.patch + static_cast<int>(row % s.patch) * s.patch + column % s.patch};
}

}  // namespace ardiff::cuda
