// What the kernels of paged attention that look at a group of keys give to the one that folds a row's groups.
#pragma once

#include "backend/cuda/elements.cuh"

namespace ardiff::cuda {

constexpr int kGroupKeys = 128;  // positions of one block of threads: groups begin at position 0 and at multiples of it

// Partial softmax of (row, head, group): the weighted sum of values, and the largest score with the sum of the weights relative to it.
struct Partials {
  int groups;     // most groups of a row
  float* sums;    // (rows, heads, groups, head_dim)
  float2* stats;  // (rows, heads, groups): largest, sum
  __device__ int64_t at(int64_t row, int heads, int head, int group) const { return (row * heads + head) * groups + group; }
};

struct Output {
  void* data;
  int64_t stride;
  bool bf16;
  __device__ void store(int64_t row, int64_t column, float value) const { store_element(data, bf16, row * stride + column, value); }
};

}  // namespace ardiff::cuda
