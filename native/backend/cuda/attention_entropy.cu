// How evenly a row's attention is spread: one block of threads per row and query heads of a kv head, then the mean over heads.
#include "backend/cuda/attention_heads.cuh"
#include "backend/cuda/cuda_backend.h"
#include "backend/op_checks.h"

namespace ardiff {

using namespace cuda;

namespace {

// Sums of p log p, gathered as scores come by: with e = exp(s - largest), sum of e and sum of e (s - largest).
struct Entropy {
  float largest = 0.0f, sum = 0.0f, moment = 0.0f;  // sum 0: nothing yet

  __device__ void add(float score) {
    if (sum == 0.0f) {
      *this = {score, 1.0f, 0.0f};
    } else if (score > largest) {
      rebase(score);
      sum += 1.0f;
    } else {
      const float e = expf(score - largest);
      sum += e;
      moment += e * (score - largest);
    }
  }
  __device__ void add(Entropy other) {
    if (other.sum == 0.0f) return;
    if (sum == 0.0f) {
      *this = other;
      return;
    }
    if (other.largest > largest) {
      rebase(other.largest);
    } else {
      other.rebase(largest);
    }
    sum += other.sum;
    moment += other.moment;
  }
  // -sum p log p = log sum - moment / sum
  __device__ float value() const { return logf(sum) - moment / sum; }

 private:
  // Relative to a larger score.
  __device__ void rebase(float to) {
    const float factor = expf(largest - to);
    moment = factor * (moment + (largest - to) * sum);
    sum *= factor;
    largest = to;
  }
};

// Entropy of each (row, head) over positions [first_keys, lengths), natural logarithm; rows with less than two positions give 0.
template <typename Kv, int kVec, int kHeads>
__global__ void __launch_bounds__(kAttentionThreads) head_entropies(Queries a, const Kv* keys, const int32_t* first_keys, float* entropies) {
  extern __shared__ __align__(16) unsigned char shared[];
  float* queries = reinterpret_cast<float*>(shared);                                        // (kHeads, head_dim)
  Entropy* of_slots = reinterpret_cast<Entropy*>(queries + kHeads * a.cache.head_dim);  // (kTileKeys, kHeads)
  const HeadTile tile = head_tile<kHeads>(a, blockIdx.x);
  const int first = first_keys[tile.row], end = a.lengths[tile.row];
  float* to = entropies + tile.row * a.heads + tile.first_head;
  if (end - first < 2) {
    if (threadIdx.x < tile.count) to[threadIdx.x] = 0.0f;
    return;  // the whole block
  }
  load_queries<kHeads>(a, tile, queries);
  __syncthreads();
  const int32_t* table = a.tables + a.table_rows[tile.row] * a.table_stride;
  const int slot = static_cast<int>(threadIdx.x) / kLanesPerKey;
  Entropy entropy[kHeads];
  for (int p = first; p < end; p += kTileKeys) {  // the same turns for all threads: dot_products shuffles
    const bool seen = p + slot < end;
    const int64_t offset = position_offset(a.cache, table, seen ? p + slot : first, tile.kv_head);
    float dots[kHeads];
    dot_products<Kv, kVec, kHeads>(queries, keys + offset, a.cache.head_dim, dots);
#pragma unroll
    for (int h = 0; h < kHeads; ++h) {
      if (seen) entropy[h].add(dots[h] * a.scale);
    }
  }
  if (threadIdx.x % kLanesPerKey == 0) {
#pragma unroll
    for (int h = 0; h < kHeads; ++h) of_slots[slot * kHeads + h] = entropy[h];
  }
  __syncthreads();
  if (threadIdx.x < tile.count) {
    Entropy total;
    for (int i = 0; i < kTileKeys; ++i) total.add(of_slots[i * kHeads + threadIdx.x]);
    to[threadIdx.x] = total.value();
  }
}

// out[m] = mean over heads, as a share of log n.
__global__ void mean_entropies(const float* entropies, const int32_t* first_keys, const int32_t* lengths, int64_t rows, int heads, float* out) {
  const int64_t m = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (m >= rows) return;
  const int count = lengths[m] - first_keys[m];
  float sum = 0.0f;
  for (int h = 0; h < heads; ++h) sum += entropies[m * heads + h];
  out[m] = count < 2 ? 0.0f : sum / (static_cast<float>(heads) * logf(static_cast<float>(count)));
}

}  // namespace

void CudaBackend::attention_entropy(const TensorView& q, const KvLayer& kv, const PagedContext& context, const TensorView& first_keys,
                                    const TensorView& out) {
  op_checks::attention_entropy(q, kv, context, first_keys, out);
  if (q.rows() == 0) return;
  Queries a = queries_of(q, kv, context);
  auto* entropies = workspace_.get<float>(q.rows() * a.heads);
  dispatch(kv, a.group_heads, [&](auto type, auto vec, auto heads) {
    using Kv = decltype(type);
    constexpr int kHeads = decltype(heads)::value;
    a.head_tiles = (a.group_heads + kHeads - 1) / kHeads;
    const size_t shared = kHeads * (sizeof(float) * static_cast<size_t>(a.cache.head_dim) + sizeof(Entropy) * kTileKeys);
    const auto kernel = head_entropies<Kv, decltype(vec)::value, kHeads>;
    const auto blocks = static_cast<unsigned>(q.rows() * a.cache.kv_heads * a.head_tiles);
    kernel<<<blocks, kAttentionThreads, shared, stream_>>>(a, elements<const Kv>(kv.keys), indices(first_keys), entropies);
  });
  check_launch("attention_entropy");
  const auto blocks = static_cast<unsigned>(ceil_div(q.rows(), kBlock));
  mean_entropies<<<blocks, kBlock, 0, stream_>>>(entropies, indices(first_keys), a.lengths, q.rows(), a.heads, floats(out));
  check_launch("attention_entropy");
}

}  // namespace ardiff
