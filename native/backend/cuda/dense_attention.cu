// Attention over all pixels of a picture: two products around a softmax of whole rows, a slice of query rows at a time, so that the
// scores of a 128x128 latent (16384 x 16384) are never held at once. Queries, keys and values are brought into the products' form first:
// bf16 (or f32), depth padded with zeros, values transposed.
#include <algorithm>
#include <cmath>

#include "backend/cuda/cuda_backend.h"
#include "backend/cuda/device.h"
#include "backend/cuda/elements.cuh"
#include "backend/cuda/product.cuh"
#include "backend/cuda/workspace_plan.h"
#include "backend/op_checks.h"

namespace ardiff {

using namespace cuda;

namespace {

constexpr int kThreads = 256;
constexpr int kTransposeTile = 32;
constexpr int64_t kScoreBytes = 64 << 20;

// y[m][0 ... padded) = x[m][0 ... cols) in T, then zeros.
template <typename T>
__global__ void pack_rows(const float* x, int64_t stride, int64_t rows, int64_t cols, int64_t padded, T* y) {
  for (int64_t i = first_item(); i < rows * padded; i += item_step()) {
    const int64_t m = i / padded, c = i % padded;
    y[i] = from_float<T>(c < cols ? x[m * stride + c] : 0.0f);
  }
}

// y[c][0 ... padded) = x[0 ... rows)[c] in T, then zeros. Blocks of 32 x 8 threads.
template <typename T>
__global__ void transpose(const float* x, int64_t stride, int64_t rows, int64_t cols, int64_t padded, T* y) {
  __shared__ float tile[kTransposeTile][kTransposeTile + 1];
  const int64_t row = static_cast<int64_t>(blockIdx.x) * kTransposeTile, col = static_cast<int64_t>(blockIdx.y) * kTransposeTile;
  for (int i = static_cast<int>(threadIdx.y); i < kTransposeTile; i += static_cast<int>(blockDim.y)) {
    const int64_t m = row + i, c = col + threadIdx.x;
    tile[i][threadIdx.x] = m < rows && c < cols ? x[m * stride + c] : 0.0f;
  }
  __syncthreads();
  for (int i = static_cast<int>(threadIdx.y); i < kTransposeTile; i += static_cast<int>(blockDim.y)) {
    const int64_t c = col + i, m = row + threadIdx.x;
    if (c < cols && m < padded) y[c * padded + m] = from_float<T>(tile[threadIdx.x][i]);
  }
}

// One row of scores per block: weights[m][0 ... padded) = softmax(scores[m] * scale) in T, then zeros.
template <typename T>
__global__ void __launch_bounds__(kThreads) softmax_rows(float* scores, int64_t cols, float scale, int64_t padded, T* weights) {
  __shared__ float of_warps[kThreads / 32];
  float* row = scores + static_cast<int64_t>(blockIdx.x) * cols;
  float largest = -INFINITY;
  for (int64_t c = threadIdx.x; c < cols; c += kThreads) largest = fmaxf(largest, row[c] * scale);
  largest = block_max<kThreads>(largest, of_warps);
  float sum = 0.0f;
  for (int64_t c = threadIdx.x; c < cols; c += kThreads) {
    const float weight = expf(row[c] * scale - largest);
    row[c] = weight;
    sum += weight;
  }
  sum = block_sum<kThreads>(sum, of_warps);
  const float inverse = 1.0f / sum;
  T* to = weights + static_cast<int64_t>(blockIdx.x) * padded;
  for (int64_t c = threadIdx.x; c < padded; c += kThreads) to[c] = from_float<T>(c < cols ? row[c] * inverse : 0.0f);
}

// a (rows, depth) times b (columns, depth) transposed, both without gaps.
template <typename T>
Product matrix_product(const T* a, int64_t rows, const T* b, int64_t columns, int64_t depth, int wide_multiprocessors) {
  Product p{};
  p.a = a;
  p.shape = matrix_shape(rows, depth);
  p.rows = rows;
  p.depth = static_cast<int>(depth);
  p.b = b;
  p.b_stride = depth;
  p.tap_depth = static_cast<int>(depth);
  p.columns = static_cast<int>(columns);
  p.wide_multiprocessors = wide_multiprocessors;
  return p;
}

}  // namespace

void CudaBackend::dense_attention(const TensorView& q, const TensorView& k, const TensorView& v, float scale, const TensorView& out) {
  op_checks::dense_attention(q, k, v, out);
  visit_element(info_.dtype, [&](auto type) {
    using T = decltype(type);
    const int64_t tokens = q.rows(), width = q.cols();
    const int64_t depth = round_up(width, kProductDepth), keys = round_up(tokens, kProductDepth);
    const int64_t slice = std::clamp<int64_t>(kScoreBytes / (tokens * static_cast<int64_t>(sizeof(float))), 1, tokens);
    WorkspacePlan plan;
    const size_t q_at = plan.add<T>(tokens * depth), k_at = plan.add<T>(tokens * depth), v_at = plan.add<T>(width * keys);
    const size_t scores_at = plan.add<float>(slice * tokens), weights_at = plan.add<T>(slice * keys);
    std::byte* memory = workspace_.get<std::byte>(static_cast<int64_t>(plan.bytes()));
    T* packed_q = reinterpret_cast<T*>(memory + q_at);
    T* packed_k = reinterpret_cast<T*>(memory + k_at);
    T* packed_v = reinterpret_cast<T*>(memory + v_at);
    float* scores = reinterpret_cast<float*>(memory + scores_at);
    T* weights = reinterpret_cast<T*>(memory + weights_at);

    pack_rows<<<blocks_for(tokens * depth), kBlock, 0, stream_>>>(floats(q), q.row_stride, tokens, width, depth, packed_q);
    pack_rows<<<blocks_for(tokens * depth), kBlock, 0, stream_>>>(floats(k), k.row_stride, tokens, width, depth, packed_k);
    const dim3 tiles(static_cast<unsigned>(keys / kTransposeTile), static_cast<unsigned>(ceil_div(width, kTransposeTile)));
    transpose<<<tiles, dim3(kTransposeTile, 8), 0, stream_>>>(floats(v), v.row_stride, tokens, width, keys, packed_v);
    check_launch("dense_attention");

    for (int64_t begin = 0; begin < tokens; begin += slice) {
      const int64_t rows = std::min(slice, tokens - begin);
      Product score = matrix_product(packed_q + begin * depth, rows, packed_k, tokens, depth, wide_.multiprocessors);
      score.y = scores;
      score.y_stride = tokens;
      multiply<T>(score, stream_);
      check_launch("dense_attention");
      softmax_rows<<<static_cast<unsigned>(rows), kThreads, 0, stream_>>>(scores, tokens, scale, keys, weights);
      check_launch("dense_attention");
      Product mix = matrix_product(weights, rows, packed_v, width, keys, wide_.multiprocessors);
      mix.y = out.data + static_cast<size_t>(begin * out.row_stride) * dtype_size(out.dtype);
      mix.y_stride = out.row_stride;
      mix.y_bf16 = out.dtype == DType::kBF16;
      multiply<T>(mix, stream_);
      check_launch("dense_attention");
    }
  });
}

}  // namespace ardiff
