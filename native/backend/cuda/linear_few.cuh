// A product of few rows with what comes before and after it.
#pragma once

#include "backend/cuda/product_after.cuh"
#include "backend/cuda/row_norm.cuh"

namespace ardiff::cuda {

struct FewRowsTask {
  LinearTask product;  // x is not read where the rows are the block's own
  bool own_rows;
  RowNormTask norm;    // of own rows
  ProductAfter after;
};

// At most kFewRows rows; own rows as few_rows.h says.
void launch_few_rows(const FewRowsTask& task, const Stream& stream);

}  // namespace ardiff::cuda
