// Which columns (row, query head) of tiled attention a lane has, and a column's running softmax (attention_tiled.cu).
#pragma once

#include <cstring>

#include "backend/cuda/attention_heads.cuh"

namespace ardiff::cuda {

constexpr int kTiledKeys = 64;  // positions of a tile

// Over the four lanes that have a column's numbers.
__device__ inline float column_most(float value) {
  value = fmaxf(value, __shfl_xor_sync(0xffffffffu, value, 1));
  return fmaxf(value, __shfl_xor_sync(0xffffffffu, value, 2));
}
__device__ inline float column_sum(float value) {
  value += __shfl_xor_sync(0xffffffffu, value, 1);
  return value + __shfl_xor_sync(0xffffffffu, value, 2);
}

__device__ inline uint32_t pack(float first, float second) {
  const __nv_bfloat162 both = __floats2bfloat162_rn(first, second);
  uint32_t bits;
  memcpy(&bits, &both, sizeof bits);
  return bits;
}

// One of the two columns of which a lane has numbers: lane / 4 and lane / 4 + 8 of its warp's 16. length: 0 for none.
struct Column {
  int64_t row;
  int head, length;
};
__device__ inline Column column_of(const Queries& a, const SharingRows& run, int kv_head, int column) {
  if (column >= run.rows * a.group_heads) return {0, 0, 0};
  const int64_t row = run.first + column / a.group_heads;
  return {row, kv_head * a.group_heads + column % a.group_heads, a.lengths[row]};
}

// Softmax of a column's keys so far (arXiv 2307.08691, algorithm 1, lines 8 to 10). scale: of scores as exponents of two.
struct Softmax {
  float largest = -INFINITY;  // score
  float sum = 0.0f;           // of weights relative to it, of this lane's keys alone

  // Scores of a tile, numbers `at` and `at + 1` of each accumulator, into weights. Returns the factor of what was summed before.
  __device__ float fold(float (&scores)[kTiledKeys / 8][4], int at, float scale) {
    float most = largest;
#pragma unroll
    for (int j = 0; j < kTiledKeys / 8; ++j) most = fmaxf(most, fmaxf(scores[j][at], scores[j][at + 1]));
    most = column_most(most);
    const float base = most == -INFINITY ? 0.0f : most;  // no key yet, as in columns that there are not: all weights are zero
    const float factor = exp2f((largest - base) * scale), offset = -base * scale;
    float added = 0.0f;
#pragma unroll
    for (int j = 0; j < kTiledKeys / 8; ++j) {
#pragma unroll
      for (int e = at; e < at + 2; ++e) {
        scores[j][e] = exp2f(fmaf(scores[j][e], scale, offset));
        added += scores[j][e];
      }
    }
    largest = most;
    sum = fmaf(sum, factor, added);
    return factor;
  }
};

}  // namespace ardiff::cuda
