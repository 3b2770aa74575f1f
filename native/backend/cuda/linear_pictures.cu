// Linear layers by cuBLASLt: its sums on their way into y, and whether its rows keep their bits.
#include <algorithm>

#include "backend/cuda/cublas_lt.h"
#include "backend/cuda/elements.cuh"
#include "backend/cuda/linear.cuh"
#include "backend/cuda/memory.h"
#include "backend/cuda/workspace_plan.h"

namespace ardiff::cuda {
namespace {

constexpr int kFinishRows = 8, kRowsEach = 4;  // rows of a block: of warps, of each warp one after the other

// A warp has 32 kVec results of kRowsEach rows, whose sums are asked for together.
template <int kVec>
__global__ void __launch_bounds__(32 * kFinishRows) finish_sums_kernel(LinearTask t, const float* sums, int64_t stride) {
  const int n = static_cast<int>(blockIdx.y * 32 + threadIdx.x % 32) * kVec;
  if (n >= t.columns) return;
  float bias[kVec];
  load_elements<kVec>(t.bias + n, bias);
  const int64_t first = (static_cast<int64_t>(blockIdx.x) * kFinishRows + threadIdx.x / 32) * kRowsEach;
  const bool adds = t.kind == Epilogue::Kind::kAdd || t.kind == Epilogue::Kind::kGatedAdd;
  float results[kRowsEach][kVec], befores[kRowsEach][kVec] = {}, gates[kRowsEach][kVec] = {};
#pragma unroll
  for (int r = 0; r < kRowsEach; ++r) {
    const int64_t m = first + r;
    if (m >= t.rows) break;
    load_elements<kVec>(sums + m * stride + n, results[r]);
    if (adds) load_elements<kVec>(static_cast<const float*>(t.y) + m * t.y_stride + n, befores[r]);
    if (const float* const gate = gate_of(t, m); gate != nullptr) load_elements<kVec>(gate + n, gates[r]);
  }
#pragma unroll
  for (int r = 0; r < kRowsEach; ++r) {
    const int64_t m = first + r;
    if (m >= t.rows) break;
#pragma unroll
    for (int e = 0; e < kVec; ++e) results[r][e] = finished(t.kind, results[r][e], bias[e], befores[r][e], gates[r][e]);
    if (t.y_bf16) {
      store_elements<kVec>(static_cast<bf16*>(t.y) + m * t.y_stride + n, results[r]);
    } else {
      store_elements<kVec>(static_cast<float*>(t.y) + m * t.y_stride + n, results[r]);
    }
  }
}

void finish_sums(const LinearTask& t, const float* sums, int64_t stride, cudaStream_t stream) {
  const auto fours = [](const void* at, int64_t row_stride) { return reinterpret_cast<uintptr_t>(at) % 16 == 0 && row_stride % 4 == 0; };
  const bool by_four = t.columns % 4 == 0 && fours(t.y, t.y_stride) && (t.gate == nullptr || fours(t.gate, t.gate_stride));
  const int of_block = 32 * (by_four ? 4 : 1);
  const dim3 blocks(static_cast<unsigned>(ceil_div(t.rows, kFinishRows * kRowsEach)), static_cast<unsigned>(ceil_div(t.columns, of_block)));
  const auto kernel = by_four ? finish_sums_kernel<4> : finish_sums_kernel<1>;
  kernel<<<blocks, 32 * kFinishRows, 0, stream>>>(t, sums, stride);
  check_launch("linear");
}

// Bits of the number's index, mixed (the finaliser of MurmurHash3), as one of 2001 numbers between -1 and 1.
__global__ void pattern_kernel(bf16* to, int64_t count) {
  for (int64_t i = first_item(); i < count; i += item_step()) {
    auto bits = static_cast<uint32_t>(i);
    bits = (bits ^ bits >> 16) * 0x85ebca6bu;
    bits = (bits ^ bits >> 13) * 0xc2b2ae35u;
    bits ^= bits >> 16;
    to[i] = __float2bfloat16_rn(static_cast<float>(static_cast<int>(bits % 2001) - 1000) / 1000.0f);
  }
}

// *differs becomes 1 where two rows of sums are not the same bits.
__global__ void compare_kernel(const float* a, const float* b, int64_t rows, int64_t columns, int64_t stride, int* differs) {
  for (int64_t i = first_item(); i < rows * columns; i += item_step()) {
    const int64_t at = i / columns * stride + i % columns;
    if (__float_as_uint(a[at]) != __float_as_uint(b[at])) *differs = 1;
  }
}

// More tiles than a device holds at once (132 multiprocessors, tiles of 128 x 256 and less), so that what a kernel does from the second
// on is compared too; for wide layers, which have as many tiles sooner, as many rows as the memory takes that is priced whatever the
// layers and limits are (memory_price.cu): dense_attention.cu's scores for sums, linear.cu's uploads for inputs.
constexpr int64_t kManyRows = 4096;
constexpr int64_t kSumBytes = int64_t{128} << 20, kInputBytes = int64_t{32} << 20;

int64_t rows_to_compare_with(int64_t depth, int64_t stride) {
  constexpr int64_t kRows = CublasLt::kCanonicalRows;
  const int64_t of_sums =
      kSumBytes / (stride * static_cast<int64_t>(sizeof(float))) - kRows - 1;  // those of the products compared, and the answer
  const int64_t of_inputs = kInputBytes / (depth * static_cast<int64_t>(sizeof(bf16)));
  return std::clamp(std::min(of_sums, of_inputs), kRows, kManyRows);
}

}  // namespace

bool rows_keep_their_bits(const CublasLt& lt, const lt::Algo& algorithm, const lt::Algo* canonical, const void* weight, int64_t depth,
                          int64_t columns, Workspace& inputs, Workspace& workspace, cudaStream_t stream) {
  constexpr int64_t kRows = CublasLt::kCanonicalRows;
  const int64_t stride = round_up(columns, 4), many = rows_to_compare_with(depth, stride);
  WorkspacePlan plan;
  const size_t all_at = plan.add<float>(many * stride), some_at = plan.add<float>(kRows * stride), differs_at = plan.add<int>(1);
  auto* const base = workspace.get<std::byte>(static_cast<int64_t>(plan.bytes()));
  auto *const all = reinterpret_cast<float*>(base + all_at), *const some = reinterpret_cast<float*>(base + some_at);
  auto* const differs = reinterpret_cast<int*>(base + differs_at);
  auto* const x = inputs.get<bf16>(many * depth);
  pattern_kernel<<<blocks_for(many * depth), kBlock, 0, stream>>>(x, many * depth);
  check_launch("cuBLASLt's check");
  check_cuda(cudaMemsetAsync(differs, 0, sizeof(int), stream), "clear memory");
  LtTask task{x, depth, many, depth, columns, weight, all, stride};
  lt.multiply(task, algorithm, stream);
  struct Rows {
    int64_t first, count;
  };
  // Those that end with the canonical ones, so that a row also stands at another place of its tile; and the last.
  const Rows parts[] = {{kRows - 1, 1}, {kRows - 17, 17}, {kRows - 64, 64},     {kRows - 200, 200},
                        {1, kRows - 1}, {0, kRows},       {many - kRows, kRows}};
  const auto compare = [&](const lt::Algo& by, int64_t first, int64_t rows) {
    task.x = x + first * depth;
    task.rows = rows;
    task.sums = some;
    lt.multiply(task, by, stream);
    compare_kernel<<<blocks_for(rows * columns), kBlock, 0, stream>>>(all + first * stride, some, rows, columns, stride, differs);
    check_launch("cuBLASLt's check");
  };
  for (const auto [first, rows] : parts) compare(algorithm, first, rows);
  for (int64_t first = 0; canonical != nullptr && first < many; first += kRows) compare(*canonical, first, std::min(kRows, many - first));
  int found = 0;
  check_cuda(cudaMemcpyAsync(&found, differs, sizeof found, cudaMemcpyDeviceToHost, stream), "cuBLASLt's check");
  check_cuda(cudaStreamSynchronize(stream), "cuBLASLt's check");
  return found == 0;
}

void launch_linear_pictures(const LinearTask& t, const CublasLt& lt, const LtAlgorithms& algorithms, int64_t sums_bytes,
                            Workspace& workspace, cudaStream_t stream) {
  const int64_t stride = round_up(t.columns, 4);
  const int64_t rows_at_once = std::min(t.rows, std::max<int64_t>(sums_bytes / (stride * 4), 1));
  float* const sums = workspace.get<float>(rows_at_once * stride);
  for (int64_t first = 0; first < t.rows; first += rows_at_once) {
    const LinearTask part = rows_of(t, first, std::min(rows_at_once, t.rows - first));
    lt.multiply({part.x, part.x_stride, part.rows, part.depth, part.columns, part.weight, sums, stride}, algorithms.of(t.rows), stream);
    finish_sums(part, sums, stride, stream);
  }
}

}  // namespace ardiff::cuda
