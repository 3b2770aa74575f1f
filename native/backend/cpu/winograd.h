// Convolutions by Winograd's algorithm in bfloat16 (winograd-inl.h): what oneDNN's direct ones are bound by is
// multiplication, and this takes 2.25 times fewer (4 times of an upsampled picture). Its rounding is that of the 16
// points, not of the inputs: about 1.7 times a direct bf16 convolution's, still less than a framework's that also
// rounds every activation (golden_test's bar).
#pragma once

#include <cstdint>
#include <vector>

#include "backend/cpu/kernels.h"
#include "backend/cpu/reusable_memory.h"
#include "backend/cpu/thread_pool.h"
#include "backend/ops.h"

namespace ardiff::cpu {

class Winograd {
 public:
  // Whether a convolution of this shape is worth it; there is bf16 to multiply only where kernels.winograd is.
  static bool suits(const Kernels& kernels, const Shape& weight, ConvPadding padding);

  // weight: (out, in, 3, 3) f32; bias: (out).
  Winograd(const Kernels& kernels, const float* weight, const float* bias, int64_t out, int64_t in);

  // y = conv(x) or y + conv(x). x: (images, height, width, in) bf16, before doubling where `upsampled`; y: after it.
  void run(ThreadPool& pool, ReusableMemory& memory, const uint16_t* x, int64_t images, int64_t height, int64_t width,
           bool upsampled, bool adds, float* y) const;

 private:
  const Kernels& kernels_;
  int64_t out_, in_;
  Storage points_;           // U as panels, point by point
  std::vector<float> bias_;  // padded to whole panels
};

}  // namespace ardiff::cpu
