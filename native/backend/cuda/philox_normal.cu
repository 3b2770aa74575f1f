// Standard normals by counter: four per thread, in double as on the host, so that a seed draws the same picture everywhere.
#include "backend/cuda/cuda_backend.h"
#include "backend/cuda/device.h"
#include "backend/op_checks.h"
#include "backend/philox.h"

namespace ardiff {

using namespace cuda;

namespace {


__global__ void philox_normal_kernel(const int32_t* keys, int64_t key_stride, int64_t rows, int64_t width, float* y, int64_t y_stride) {
  const int64_t blocks = (width + 3) / 4;  // of four normals in a row
  for (int64_t i = first_item(); i < rows * blocks; i += item_step()) {
    const int64_t m = i / blocks, block = i % blocks;
    const int32_t* key = keys + m * key_stride;
    const auto word = [&](int w) { return static_cast<uint32_t>(key[w]); };
    const auto normals = philox_normals(philox4x32({static_cast<uint32_t>(block), word(2), word(3), word(4)}, {word(0), word(1)}));
    for (int j = 0; j < 4; ++j) {
      const int64_t c = 4 * block + j;
      if (c < width) y[m * y_stride + c] = static_cast<float>(normals[static_cast<size_t>(j)]);
    }
  }
}

}  // namespace

void CudaBackend::philox_normal(const TensorView& keys, const TensorView& y) {
  op_checks::philox_normal(keys, y);
  const int64_t items = y.rows() * ((y.cols() + 3) / 4);
  if (items == 0) return;
  philox_normal_kernel<<<blocks_for(items), kBlock, 0, stream_>>>(indices(keys), keys.row_stride, y.rows(), y.cols(), floats(y), y.row_stride);
  check_launch("philox_normal");
}

}  // namespace ardiff
