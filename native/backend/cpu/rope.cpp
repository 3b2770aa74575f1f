#include <cmath>

#include "backend/cpu/cpu_backend.h"
#include "backend/cpu/thread_pool.h"
#include "backend/cpu/view_data.h"
#include "backend/op_checks.h"

namespace ardiff {

using namespace cpu;

void CpuBackend::rope_angles(const TensorView& positions, float theta, const TensorView& cos, const TensorView& sin) {
  op_checks::rope_angles(positions, cos, sin);
  const int64_t half = cos.cols();
  std::vector<float>& frequencies = rope_frequencies_[{theta, half}];
  for (auto i = static_cast<int64_t>(frequencies.size()); i < half; ++i) {
    frequencies.push_back(static_cast<float>(std::pow(static_cast<double>(theta), -static_cast<double>(i) / static_cast<double>(half))));
  }
  constexpr int64_t kTrigonometryCost = 32;
  pool_.run_ranges(cos.rows(), kTrigonometryCost * half, [&](int64_t begin, int64_t end) {
    for (int64_t m = begin; m < end; ++m) {
      for (int64_t i = 0; i < half; ++i) {
        const float angle = static_cast<float>(indices(positions)[m]) * frequencies[static_cast<size_t>(i)];
        row_floats(cos, m)[i] = std::cos(angle);
        row_floats(sin, m)[i] = std::sin(angle);
      }
    }
  });
}

void CpuBackend::rope_store(const TensorView& qkv, const TensorView& cos, const TensorView& sin, const TensorView& slots,
                            const TensorView& q, const KvLayer& kv) {
  op_checks::rope_store(qkv, cos, sin, slots, q, kv);
  const int64_t kv_heads = kv.keys.shape[1];
  const int64_t block_tokens = kv.keys.shape[2];
  const int64_t d = kv.keys.shape[3];
  const int64_t q_heads = q.cols() / d;
  const size_t size = dtype_size(kv.keys.dtype);
  const bool kv_bf16 = is_bf16(kv.keys);
  pool_.run_ranges(qkv.rows(), qkv.cols(), [&](int64_t begin, int64_t end) {
    for (int64_t m = begin; m < end; ++m) {
      const float* row = row_floats(qkv, m);
      const float* c = row_floats(cos, m);
      const float* s = row_floats(sin, m);
      for (int64_t h = 0; h < q_heads; ++h) kernels_->rotate(row + h * d, c, s, d / 2, row_floats(q, m) + h * d, false);
      const float* keys = row + q_heads * d;
      const float* values = keys + kv_heads * d;
      const int64_t block = indices(slots)[m] / block_tokens;
      const int64_t offset = indices(slots)[m] % block_tokens;
      for (int64_t h = 0; h < kv_heads; ++h) {
        const size_t at = static_cast<size_t>(((block * kv_heads + h) * block_tokens + offset) * d) * size;
        kernels_->rotate(keys + h * d, c, s, d / 2, kv.keys.data + at, kv_bf16);
        kernels_->store(values + h * d, d, kv.values.data + at, kv_bf16);
      }
    }
  });
}

void CpuBackend::store_kv(const TensorView& key_values, const TensorView& slots, const KvLayer& kv) {
  op_checks::store_kv(key_values, slots, kv);
  const int64_t kv_heads = kv.keys.shape[1], block_tokens = kv.keys.shape[2], d = kv.keys.shape[3];
  const size_t size = dtype_size(kv.keys.dtype);
  const bool kv_bf16 = is_bf16(kv.keys);
  pool_.run_ranges(key_values.rows(), key_values.cols(), [&](int64_t begin, int64_t end) {
    for (int64_t m = begin; m < end; ++m) {
      const float* keys = row_floats(key_values, m);
      const float* values = keys + kv_heads * d;
      const int64_t block = indices(slots)[m] / block_tokens, offset = indices(slots)[m] % block_tokens;
      for (int64_t h = 0; h < kv_heads; ++h) {
        const size_t at = static_cast<size_t>(((block * kv_heads + h) * block_tokens + offset) * d) * size;
        kernels_->store(keys + h * d, d, kv.keys.data + at, kv_bf16);
        kernels_->store(values + h * d, d, kv.values.data + at, kv_bf16);
      }
    }
  });
}

}  // namespace ardiff
