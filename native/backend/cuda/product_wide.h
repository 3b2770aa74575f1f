// product.cuh in bf16 by the warpgroup products of compute capability 9.0a: the same sums, and the same bits, as product_bf16.cu makes.
#pragma once

#include "backend/cuda/product.cuh"

namespace ardiff::cuda {

constexpr int kWideDepth = 64;  // numbers of a tap at a time

constexpr int kWideSide = 1 << 15;               // pixels: places in a picture are kept in 16 bits
constexpr int64_t kWideRows = int64_t{1} << 28;  // and pixels of memory, at most four times as many, in 32

inline bool takes_wide_product(const Product& p) {
  const ConvShape& s = p.shape;
  return p.tap_depth % kWideDepth == 0 && p.columns > 64 && s.height << s.doubling < kWideSide && s.width << s.doubling < kWideSide &&
         p.rows < kWideRows;
}

// Weights of convolutions that are multiplied so lie as stages of a tile have them: for every kWideDepth numbers, taps outside, all columns
// one after the other, 128 bytes each, the 16 bytes c of a column n at place c ^ n % 8. What such a tile needs is then one piece.
inline bool takes_pieces(int64_t columns, int64_t tap_depth) { return columns > 64 && columns % 8 == 0 && tap_depth % kWideDepth == 0; }
inline int64_t piece_place(int64_t columns, int64_t column, int64_t depth) {
  const int64_t piece = depth % kWideDepth / 8;
  return (depth / kWideDepth * columns + column) * kWideDepth + (piece ^ column % 8) * 8 + depth % 8;
}

// Where takes_wide_product, on a device that has the instructions. Errors of the launch are the next cudaGetLastError's.
void multiply_wide(const Product& p, cudaStream_t stream);

}  // namespace ardiff::cuda
