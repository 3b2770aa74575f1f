// Attention of one row and one kv head. Positions are taken in cache order, kLanes at a time and never across
// a block's end; each score is one chain over the head's elements, each output element one chain over positions.
//
// Where a processor can, bf16 keys and values are read as pairs: elements of even and odd index in two vectors,
// against a query split the same way. Whether it is done depends on the head size alone.

// Scores of `count` <= kLanes positions from `keys` on; the last one stands in for those past the end.
template <typename Kv, bool kPaired>
inline Vec chunk_scores(const float* q, int head_dim, const Kv* keys, int count) {
  Vec sums[kLanes];
#pragma GCC unroll 16
  for (int j = 0; j < kLanes; ++j) sums[j] = set(0.0f);
  const Kv* key[kLanes];
#pragma GCC unroll 16
  for (int j = 0; j < kLanes; ++j) key[j] = keys + (j < count ? j : count - 1) * static_cast<int64_t>(head_dim);
#if defined(ARDIFF_SIMD_PAIRS)
  if constexpr (kPaired) {
    for (int i = 0; i < head_dim; i += 2 * kLanes) {
      const VecPair query = split(load(q + i), load(q + i + kLanes));
#pragma GCC unroll 16
      for (int j = 0; j < kLanes; ++j) {
        const VecPair k = load_pair(key[j] + i);
        sums[j] = fma(query.odd, k.odd, fma(query.even, k.even, sums[j]));
      }
    }
    return reduce_each(sums);
  }
#endif
  for (int i = 0; i < head_dim; i += kLanes) {
    const Count lanes_left = first(head_dim - i);
    const Vec query = load(q + i, lanes_left);
#pragma GCC unroll 16
    for (int j = 0; j < kLanes; ++j) sums[j] = fma(query, load(key[j] + i, lanes_left), sums[j]);
  }
  return reduce_each(sums);
}

template <typename Kv, bool kPaired>
inline void all_scores(const AttentionTask& t) {
  for (int position = t.first; position < t.length;) {
    const int offset = position % t.block_tokens;
    int count = t.block_tokens - offset < kLanes ? t.block_tokens - offset : kLanes;
    if (count > t.length - position) count = t.length - position;
    const Kv* keys = static_cast<const Kv*>(t.keys) + t.blocks[position / t.block_tokens] * t.block_stride + static_cast<int64_t>(offset) * t.head_dim;
    for (int h = 0; h < t.heads; ++h) {
      const Vec scores = chunk_scores<Kv, kPaired>(t.q + h * t.head_dim, t.head_dim, keys, count);
      store(t.scores + h * t.score_stride + position, scores * set(t.scale), first(count));
    }
    position += count;
  }
}

// Calls visit(values of the position, its weight) for every position in order.
template <typename Kv, typename Visit>
inline void for_values(const AttentionTask& t, const float* weights, Visit visit) {
  for (int position = 0; position < t.length;) {
    const int count = t.block_tokens < t.length - position ? t.block_tokens : t.length - position;
    const Kv* values = static_cast<const Kv*>(t.values) + t.blocks[position / t.block_tokens] * t.block_stride;
    for (int j = 0; j < count; ++j, values += t.head_dim) visit(values, set(weights[position + j]));
    position += count;
  }
}

inline void store_output(const AttentionTask& t, int64_t at, Vec v, Count count) {
  if (t.out_bf16) {
    store(static_cast<uint16_t*>(t.out) + at, v, count);
  } else {
    store(static_cast<float*>(t.out) + at, v, count);
  }
}

// Elements [begin, begin + kVectors * kLanes) of one head's output, the last vector with `last` lanes.
template <typename Kv, int kVectors>
inline void weighted_values(const AttentionTask& t, const float* weights, float inverse_sum, int begin, Count last, int64_t out_at) {
  Vec sums[kVectors];
  for (int c = 0; c < kVectors; ++c) sums[c] = set(0.0f);
  for_values<Kv>(t, weights, [&](const Kv* values, Vec weight) {
    for (int c = 0; c < kVectors - 1; ++c) sums[c] = fma(weight, load(values + begin + c * kLanes), sums[c]);
    sums[kVectors - 1] = fma(weight, load(values + begin + (kVectors - 1) * kLanes, last), sums[kVectors - 1]);
  });
  for (int c = 0; c < kVectors; ++c) store_output(t, out_at + c * kLanes, sums[c] * set(inverse_sum), c == kVectors - 1 ? last : first(kLanes));
}

template <typename Kv>
inline void head_output(const AttentionTask& t, const float* weights, float inverse_sum, int64_t out_at) {
  for (int begin = 0; begin < t.head_dim;) {
    const int left = (t.head_dim - begin + kLanes - 1) / kLanes;
    const int vectors = left < 4 ? left : 4;
    const Count last = first(t.head_dim - begin - (vectors - 1) * kLanes);
    switch (vectors) {
      case 1: weighted_values<Kv, 1>(t, weights, inverse_sum, begin, last, out_at + begin); break;
      case 2: weighted_values<Kv, 2>(t, weights, inverse_sum, begin, last, out_at + begin); break;
      case 3: weighted_values<Kv, 3>(t, weights, inverse_sum, begin, last, out_at + begin); break;
      default: weighted_values<Kv, 4>(t, weights, inverse_sum, begin, last, out_at + begin); break;
    }
    begin += vectors * kLanes;
  }
}

#if defined(ARDIFF_SIMD_PAIRS)
template <int kPairs>
inline void paired_values(const AttentionTask& t, const float* weights, float inverse_sum, int begin, int64_t out_at) {
  VecPair sums[kPairs];
  for (int c = 0; c < kPairs; ++c) sums[c] = {set(0.0f), set(0.0f)};
  for_values<uint16_t>(t, weights, [&](const uint16_t* values, Vec weight) {
    for (int c = 0; c < kPairs; ++c) {
      const VecPair v = load_pair(values + begin + 2 * c * kLanes);
      sums[c] = {fma(weight, v.even, sums[c].even), fma(weight, v.odd, sums[c].odd)};
    }
  });
  for (int c = 0; c < kPairs; ++c) {
    Vec low, high;
    join(sums[c], low, high);
    store_output(t, out_at + 2 * c * kLanes, low * set(inverse_sum), first(kLanes));
    store_output(t, out_at + (2 * c + 1) * kLanes, high * set(inverse_sum), first(kLanes));
  }
}

inline void paired_head_output(const AttentionTask& t, const float* weights, float inverse_sum, int64_t out_at) {
  int begin = 0;
  for (; begin + 4 * kLanes <= t.head_dim; begin += 4 * kLanes) paired_values<2>(t, weights, inverse_sum, begin, out_at + begin);
  for (; begin < t.head_dim; begin += 2 * kLanes) paired_values<1>(t, weights, inverse_sum, begin, out_at + begin);
}
#endif

template <typename Kv, bool kPaired>
inline void attention_of(const AttentionTask& t) {
  all_scores<Kv, kPaired>(t);
  for (int h = 0; h < t.heads; ++h) {
    float* weights = t.scores + h * t.score_stride;
    const float inverse_sum = 1.0f / softmax_row(weights, 1.0f, t.length);
    const int64_t out_at = static_cast<int64_t>(h) * t.head_dim;
#if defined(ARDIFF_SIMD_PAIRS)
    if constexpr (kPaired) {
      paired_head_output(t, weights, inverse_sum, out_at);
      continue;
    }
#endif
    head_output<Kv>(t, weights, inverse_sum, out_at);
  }
}

// With s the scores less their largest: entropy of e^s / sum e^s = log(sum e^s) - (sum s e^s) / (sum e^s).
inline float softmax_entropy(const float* scores, int64_t n) {
  Vec largest = set(scores[0]);
  for_vectors(n, [&](int64_t i, Count count) { largest = max(largest, select(count, load(scores + i, count), largest)); });
  const Vec most = set(reduce_max(largest));
  Vec sum = set(0.0f), weighted = set(0.0f);
  for_vectors(n, [&](int64_t i, Count count) {
    const Vec s = load(scores + i, count) - most;
    const Vec e = select(count, exp(s), set(0.0f));
    sum = sum + e;
    weighted = weighted + select(count, s * e, set(0.0f));
  });
  const float total = reduce_add(sum);
  return __builtin_logf(total) - reduce_add(weighted) / total;
}

template <typename Kv, bool kPaired>
inline float entropy_of(const AttentionTask& t) {
  all_scores<Kv, kPaired>(t);
  float sum = 0.0f;
  for (int h = 0; h < t.heads; ++h) sum += softmax_entropy(t.scores + h * t.score_stride + t.first, t.length - t.first);
  return sum;
}

template <typename Kv, bool kPaired>
struct Reading {
  using Element = Kv;
  static constexpr bool paired = kPaired;
};

// Calls run with how this task's keys and values are read.
template <typename Run>
inline auto by_reading(const AttentionTask& t, Run run) {
  if (!t.kv_bf16) return run(Reading<float, false>{});
#if defined(ARDIFF_SIMD_PAIRS)
  if (t.head_dim % (2 * kLanes) == 0) return run(Reading<uint16_t, true>{});
#endif
  return run(Reading<uint16_t, false>{});
}

void attention(const AttentionTask& t) {
  by_reading(t, [&](auto r) { attention_of<typename decltype(r)::Element, decltype(r)::paired>(t); });
}

float attention_entropy(const AttentionTask& t) {
  return by_reading(t, [&](auto r) { return entropy_of<typename decltype(r)::Element, decltype(r)::paired>(t); });
}
