// Index arithmetic of a convolution as a matrix product: row m of it is an output pixel, its depth runs over the taps and, within
// a tap, over channels. Plain C++ too: cuda_index_test runs it on the host against the definition.
#pragma once

#include <cstdint>

#include "backend/host_device.h"

namespace ardiff::cuda {

struct ConvShape {
  int height, width;          // of the picture in memory
  int out_height, out_width;  // of the result
  int kernel, stride, pad;    // pad: zeros above and left; below and right follow from the sizes
  int doubling;               // 1: the picture is read at twice its size, nearest neighbour (u[i][j] = x[i/2][j/2]); else 0
  int64_t channels;           // elements from one pixel of memory to the next
};

// Where an output pixel's window begins: image, and row and column of tap (0, 0), which may be outside.
struct Window {
  int64_t image_pixels;  // pixels of memory before the image
  int row, column;
};

ARDIFF_HD inline Window conv_window(const ConvShape& s, int64_t m) {
  const int64_t image_rows = m / s.out_width;
  const int column = static_cast<int>(m % s.out_width), row = static_cast<int>(image_rows % s.out_height);
  return {image_rows / s.out_height * s.height * s.width, row * s.stride - s.pad, column * s.stride - s.pad};
}

// Offset of channel 0 of the pixel that tap (a, b) reads, or -1 outside of the picture.
ARDIFF_HD inline int64_t tap_offset(const ConvShape& s, const Window& w, int a, int b) {
  const int row = w.row + a, column = w.column + b;
  if (row < 0 || column < 0 || row >= s.height << s.doubling || column >= s.width << s.doubling) return -1;
  return (w.image_pixels + static_cast<int64_t>(row >> s.doubling) * s.width + (column >> s.doubling)) * s.channels;
}

}  // namespace ardiff::cuda
