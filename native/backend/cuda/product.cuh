// One matrix product for what is not a linear layer: y = a bᵀ (+ bias) with a gathered row by row, as a convolution reads its
// picture or as the rows of a matrix (a 1x1 convolution of one row of pixels). Tensor cores in bf16, plain multiply-adds in f32.
#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include "backend/cuda/conv_index.cuh"

namespace ardiff::cuda {

struct Product {
  // a: row m has taps * channels numbers: for tap (t / kernel, t % kernel) the pixel that it reads, zeros outside.
  const void* a;
  ConvShape shape;  // channels: elements between pixels of a; bf16: a multiple of 8, zero from depth on
  int64_t rows;     // output pixels
  int depth;        // channels that count; bf16: rounded up to a multiple of 8
  // b: (columns, taps, tap_depth), rows b_stride apart; or in pieces as product_wide.h says.
  const void* b;
  int64_t b_stride;
  bool b_in_pieces;
  int tap_depth;  // bf16: a multiple of kProductDepth, zero from depth on
  int columns;
  // y[m][n] = or += sum + bias[n]
  const float* bias;  // or null
  void* y;
  int64_t y_stride;
  bool y_bf16;
  bool adds;  // y f32
  int wide_multiprocessors;  // of a device that can take product_wide.h, and may; else 0
};

constexpr int kProductDepth = 32;  // numbers of a tap that the bf16 kernel takes at a time

// A plain matrix (rows, depth) as a picture of one row of pixels.
inline ConvShape matrix_shape(int64_t rows, int64_t stride) {
  return {1, static_cast<int>(rows), 1, static_cast<int>(rows), 1, 1, 0, 0, stride};
}

// a and b of T, f32 results unless p says otherwise. The order of a result's sums does not depend on rows. Errors of the launch are
// the next cudaGetLastError's.
template <typename T>
void multiply(const Product& p, cudaStream_t stream);
template <>
void multiply<__nv_bfloat16>(const Product& p, cudaStream_t stream);
template <>
void multiply<float>(const Product& p, cudaStream_t stream);

}  // namespace ardiff::cuda
