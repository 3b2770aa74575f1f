#include "backend/op_checks.h"
#include "backend/reference/elements.h"
#include "backend/reference/reference_backend.h"

namespace ardiff {

using reference::load;
using reference::store;

void ReferenceBackend::rope_angles(const TensorView& positions, float theta, const TensorView& cos, const TensorView& sin) {
  op_checks::rope_angles(positions, cos, sin);
  const int64_t half = cos.cols();
  for (int64_t i = 0; i < half; ++i) {
    const auto frequency = static_cast<float>(std::pow(static_cast<double>(theta), -static_cast<double>(i) / static_cast<double>(half)));
    for (int64_t m = 0; m < cos.rows(); ++m) {
      const float angle = static_cast<float>(reference::indices(positions)[m]) * frequency;
      store(cos, m, i, std::cos(angle));
      store(sin, m, i, std::sin(angle));
    }
  }
}

void ReferenceBackend::rope_store(const TensorView& qkv, const TensorView& cos, const TensorView& sin, const TensorView& slots,
                                  const TensorView& q, const KvLayer& kv) {
  op_checks::rope_store(qkv, cos, sin, slots, q, kv);
  const int64_t kv_heads = kv.keys.shape[1];
  const int64_t block_tokens = kv.keys.shape[2];
  const int64_t d = kv.keys.shape[3];
  const int64_t half = d / 2;
  const int64_t q_heads = q.cols() / d;
  for (int64_t m = 0; m < qkv.rows(); ++m) {
    // Rotated element i of the head that starts at column `begin` of qkv.
    auto rotated = [&](int64_t begin, int64_t i) {
      const int64_t j = i % half;
      const float x1 = load(qkv, m, begin + j);
      const float x2 = load(qkv, m, begin + half + j);
      return i < half ? x1 * load(cos, m, j) - x2 * load(sin, m, j) : x2 * load(cos, m, j) + x1 * load(sin, m, j);
    };
    for (int64_t h = 0; h < q_heads; ++h) {
      for (int64_t i = 0; i < d; ++i) store(q, m, h * d + i, rotated(h * d, i));
    }
    const int64_t block = reference::indices(slots)[m] / block_tokens;
    const int64_t offset = reference::indices(slots)[m] % block_tokens;
    for (int64_t h = 0; h < kv_heads; ++h) {
      const int64_t cached = ((block * kv_heads + h) * block_tokens + offset) * d;
      for (int64_t i = 0; i < d; ++i) {
        store(kv.keys, cached + i, rotated((q_heads + h) * d, i));
        store(kv.values, cached + i, load(qkv, m, (q_heads + kv_heads + h) * d + i));
      }
    }
  }
}

void ReferenceBackend::store_kv(const TensorView& key_values, const TensorView& slots, const KvLayer& kv) {
  op_checks::store_kv(key_values, slots, kv);
  const int64_t kv_heads = kv.keys.shape[1], block_tokens = kv.keys.shape[2], d = kv.keys.shape[3];
  for (int64_t m = 0; m < key_values.rows(); ++m) {
    const int64_t block = reference::indices(slots)[m] / block_tokens, offset = reference::indices(slots)[m] % block_tokens;
    for (int64_t h = 0; h < kv_heads; ++h) {
      const int64_t cached = ((block * kv_heads + h) * block_tokens + offset) * d;
      for (int64_t i = 0; i < d; ++i) {
        store(kv.keys, cached + i, load(key_values, m, h * d + i));
        store(kv.values, cached + i, load(key_values, m, (kv_heads + h) * d + i));
      }
    }
  }
}

}  // namespace ardiff
