// Attention over the paged cache, over all pixels of an image, and the cache's block copies.
#include <algorithm>
#include <cstring>
#include <vector>

#include "backend/op_checks.h"
#include "backend/reference/elements.h"
#include "backend/reference/reference_backend.h"

namespace ardiff {
namespace {

using reference::load;
using reference::store;

// Scores to weights that sum to one.
void softmax(std::vector<float>& scores) {
  const float largest = *std::max_element(scores.begin(), scores.end());
  float sum = 0.0f;
  for (float& score : scores) {
    score = std::exp(score - largest);
    sum += score;
  }
  for (float& score : scores) score /= sum;
}

}  // namespace

void ReferenceBackend::paged_attention(const TensorView& q, const KvLayer& kv, const PagedContext& context, const TensorView& out) {
  op_checks::paged_attention(q, kv, context, out);
  const int64_t kv_heads = kv.keys.shape[1];
  const int64_t block_tokens = kv.keys.shape[2];
  const int64_t d = kv.keys.shape[3];
  const int64_t q_heads = q.cols() / d;
  const float scale = 1.0f / std::sqrt(static_cast<float>(d));
  std::vector<float> scores;
  for (int64_t m = 0; m < q.rows(); ++m) {
    const int32_t* table = reference::indices(context.block_tables) + reference::indices(context.table_rows)[m] * context.block_tables.cols();
    const int64_t length = reference::indices(context.context_lengths)[m];
    for (int64_t h = 0; h < q_heads; ++h) {
      const int64_t g = h / (q_heads / kv_heads);
      auto cached = [&](int64_t p) { return ((table[p / block_tokens] * kv_heads + g) * block_tokens + p % block_tokens) * d; };
      scores.assign(static_cast<size_t>(length), 0.0f);
      for (int64_t p = 0; p < length; ++p) {
        float dot = 0.0f;
        for (int64_t i = 0; i < d; ++i) dot += load(q, m, h * d + i) * load(kv.keys, cached(p) + i);
        scores[static_cast<size_t>(p)] = dot * scale;
      }
      softmax(scores);
      for (int64_t i = 0; i < d; ++i) {
        float sum = 0.0f;
        for (int64_t p = 0; p < length; ++p) sum += scores[static_cast<size_t>(p)] * load(kv.values, cached(p) + i);
        store(out, m, h * d + i, sum);
      }
    }
  }
}

void ReferenceBackend::copy_blocks(const KvLayer& kv, std::span<const int32_t> pairs) {
  op_checks::copy_blocks(kv, pairs);
  const Shape& s = kv.keys.shape;
  const size_t bytes = static_cast<size_t>(s[1] * s[2] * s[3]) * dtype_size(kv.keys.dtype);
  for (size_t i = 0; i < pairs.size(); i += 2) {
    const size_t from = static_cast<size_t>(pairs[i]) * bytes;
    const size_t to = static_cast<size_t>(pairs[i + 1]) * bytes;
    if (from == to) continue;
    std::memcpy(kv.keys.data + to, kv.keys.data + from, bytes);
    std::memcpy(kv.values.data + to, kv.values.data + from, bytes);
  }
}

void ReferenceBackend::dense_attention(const TensorView& q, const TensorView& k, const TensorView& v, float scale, const TensorView& out) {
  op_checks::dense_attention(q, k, v, out);
  std::vector<float> scores(static_cast<size_t>(k.rows()));
  std::vector<float> sums(static_cast<size_t>(v.cols()));
  for (int64_t m = 0; m < q.rows(); ++m) {
    for (int64_t p = 0; p < k.rows(); ++p) {
      float dot = 0.0f;
      for (int64_t i = 0; i < q.cols(); ++i) dot += load(q, m, i) * load(k, p, i);
      scores[static_cast<size_t>(p)] = dot * scale;
    }
    softmax(scores);
    std::fill(sums.begin(), sums.end(), 0.0f);
    for (int64_t p = 0; p < v.rows(); ++p) {
      for (int64_t i = 0; i < v.cols(); ++i) sums[static_cast<size_t>(i)] += scores[static_cast<size_t>(p)] * load(v, p, i);
    }
    for (int64_t i = 0; i < v.cols(); ++i) store(out, m, i, sums[static_cast<size_t>(i)]);
  }
}

}  // namespace ardiff
