#include "backend/cuda/device.h"

namespace ardiff::cuda {

void check_cuda(cudaError_t status, const char* what) {
  if (status == cudaSuccess) [[likely]] return;
  (void)cudaGetLastError();  // an error that does not stay with the context is not reported again by the next launch check
  const ErrorCode code = status == cudaErrorMemoryAllocation ? ErrorCode::kOutOfMemory : ErrorCode::kInternal;
  fail(code, "cuda: ", what, ": ", cudaGetErrorString(status), " (", cudaGetErrorName(status), ")");
}

}  // namespace ardiff::cuda
