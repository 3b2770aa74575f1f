// A product of few rows with what comes before and after it.
#pragma once

#include "backend/cuda/product_after.cuh"

namespace ardiff::cuda {

// Rows of float32 that a product gathers and rounds.
struct OwnRows {
  const float* x;  // or null
  int64_t x_stride;
  const int32_t* x_rows;  // the row of x for each row
  int width;
  __device__ const float* row(int64_t m) const { return x + x_rows[m] * x_stride; }
};

struct FewRowsTask {
  LinearTask product;  // x is not read where the rows are the block's own
  OwnRows own;
  ProductAfter after;
};

// At most kFewRows rows; own rows as few_rows.h says.
void launch_few_rows(const FewRowsTask& task, const Stream& stream);

}  // namespace ardiff::cuda
