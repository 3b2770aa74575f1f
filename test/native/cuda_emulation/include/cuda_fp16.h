#pragma once

#include "emulation.h"
#include "tensor/dtype.h"

struct __half {
  uint16_t bits;
};
inline float __half2float(__half value) { return ardiff::f16_to_f32(value.bits); }
