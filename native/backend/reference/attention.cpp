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

// One query row and one of its heads over the paged cache.
struct CachedHead {
  CachedHead(const TensorView& q, const KvLayer& kv, const PagedContext& context, int64_t row, int64_t head)
      : query(q), cache(kv), m(row), first_column(head * kv.keys.shape[3]) {
    table = reference::indices(context.block_tables) + reference::indices(context.table_rows)[row] * context.block_tables.cols();
    kv_head = head / (q.cols() / kv.keys.shape[3] / kv.keys.shape[1]);
  }

  // Element 0 of the head's key or value at a position.
  int64_t at(int64_t position) const {
    const int64_t tokens = cache.keys.shape[2];
    return ((table[position / tokens] * cache.keys.shape[1] + kv_head) * tokens + position % tokens) * cache.keys.shape[3];
  }
  // Softmax weights of positions [begin, end).
  void weights(int64_t begin, int64_t end, std::vector<float>& out) const {
    const int64_t d = cache.keys.shape[3];
    const float scale = 1.0f / std::sqrt(static_cast<float>(d));
    out.clear();
    for (int64_t p = begin; p < end; ++p) {
      float dot = 0.0f;
      for (int64_t i = 0; i < d; ++i) dot += load(query, m, first_column + i) * load(cache.keys, at(p) + i);
      out.push_back(dot * scale);
    }
    softmax(out);
  }

  const TensorView& query;
  const KvLayer& cache;
  int64_t m, first_column, kv_head;
  const int32_t* table;
};

}  // namespace

void ReferenceBackend::paged_attention(const TensorView& q, const KvLayer& kv, const PagedContext& context, const TensorView& out) {
  op_checks::paged_attention(q, kv, context, out);
  const int64_t d = kv.keys.shape[3];
  std::vector<float> weights;
  for (int64_t m = 0; m < q.rows(); ++m) {
    const int64_t length = reference::indices(context.context_lengths)[m];
    for (int64_t h = 0; h < q.cols() / d; ++h) {
      const CachedHead head(q, kv, context, m, h);
      head.weights(0, length, weights);
      for (int64_t i = 0; i < d; ++i) {
        float sum = 0.0f;
        for (int64_t p = 0; p < length; ++p) sum += weights[static_cast<size_t>(p)] * load(kv.values, head.at(p) + i);
        store(out, m, h * d + i, sum);
      }
    }
  }
}

void ReferenceBackend::attention_entropy(const TensorView& q, const KvLayer& kv, const PagedContext& context, const TensorView& first_keys,
                                         const TensorView& out) {
  op_checks::attention_entropy(q, kv, context, first_keys, out);
  const int64_t heads = q.cols() / kv.keys.shape[3];
  auto* entropies = reinterpret_cast<float*>(out.data);
  std::vector<float> weights;
  for (int64_t m = 0; m < q.rows(); ++m) {
    const int64_t begin = reference::indices(first_keys)[m], end = reference::indices(context.context_lengths)[m];
    entropies[m] = 0.0f;
    if (end - begin < 2) continue;
    float sum = 0.0f;
    for (int64_t h = 0; h < heads; ++h) {
      CachedHead(q, kv, context, m, h).weights(begin, end, weights);
      for (float p : weights) sum -= p > 0.0f ? p * std::log(p) : 0.0f;
    }
    entropies[m] = sum / (static_cast<float>(heads) * std::log(static_cast<float>(end - begin)));
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
