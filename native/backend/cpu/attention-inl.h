// Attention of some rows of one sequence and one kv head. Positions are taken in cache order, kLanes at a time and never across
// a block's end; each score is one chain over the head's elements, each output element one chain over positions.
//
// Where a processor can, bf16 keys and values are read as pairs: elements of even and odd index in two vectors,
// against a query split the same way. Whether it is done depends on the head size alone. Heads and rows that see the
// same positions then share what is read: two at a time for scores, four for values. Each is added up as if alone.

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

// Calls visit(values of the position, position) for the positions [begin, end) in order.
template <typename Kv, typename Visit>
inline void for_values(const AttentionTask& t, int begin, int end, Visit visit) {
  for (int position = begin; position < end;) {
    const int offset = position % t.block_tokens;
    const int count = t.block_tokens - offset < end - position ? t.block_tokens - offset : end - position;
    const Kv* values = static_cast<const Kv*>(t.values) + t.blocks[position / t.block_tokens] * t.block_stride + static_cast<int64_t>(offset) * t.head_dim;
    for (int j = 0; j < count; ++j, values += t.head_dim) visit(values, position + j);
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
  for_values<Kv>(t, 0, t.length, [&](const Kv* values, int position) {
    const Vec weight = set(weights[position]);
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
// Query head `index` of the task counted over its rows: its query, scores, length and output.
struct HeadOfRow {
  const float* q;
  float* scores;
  int length;
  int64_t out_at;
};

inline HeadOfRow head_of_row(const AttentionTask& t, int index) {
  const int row = index / t.heads, at = index % t.heads * t.head_dim;
  return {t.q + row * t.q_stride + at, t.scores + index * t.score_stride, t.lengths[row], row * t.out_stride + at};
}

// Scores of two heads for `count` <= kLanes / 2 positions from `keys` on: half a vector each.
inline Vec chunk_scores_of_two(const float* q, const float* r, int head_dim, const uint16_t* keys, int count) {
  constexpr int kHalf = kLanes / 2;
  Vec sums[kLanes];
#pragma GCC unroll 16
  for (int j = 0; j < kLanes; ++j) sums[j] = set(0.0f);
  for (int i = 0; i < head_dim; i += 2 * kLanes) {
    const VecPair query = split(load(q + i), load(q + i + kLanes)), other = split(load(r + i), load(r + i + kLanes));
#pragma GCC unroll 8
    for (int j = 0; j < kHalf; ++j) {
      const VecPair k = load_pair(keys + (j < count ? j : count - 1) * static_cast<int64_t>(head_dim) + i);
      sums[j] = fma(query.odd, k.odd, fma(query.even, k.even, sums[j]));
      sums[kHalf + j] = fma(other.odd, k.odd, fma(other.even, k.even, sums[kHalf + j]));
    }
  }
  return reduce_each(sums);
}

inline void scores_of_two(const AttentionTask& t, const HeadOfRow& a, const HeadOfRow& b) {
  constexpr int kHalf = kLanes / 2;
  const int length = a.length > b.length ? a.length : b.length;
  for (int position = 0; position < length;) {
    const int offset = position % t.block_tokens;
    int count = t.block_tokens - offset < kHalf ? t.block_tokens - offset : kHalf;
    if (count > length - position) count = length - position;
    const uint16_t* keys = static_cast<const uint16_t*>(t.keys) + t.blocks[position / t.block_tokens] * t.block_stride + static_cast<int64_t>(offset) * t.head_dim;
    alignas(64) float both[kLanes];
    store(both, chunk_scores_of_two(a.q, b.q, t.head_dim, keys, count) * set(t.scale));
    for (int j = 0; j < count; ++j) a.scores[position + j] = both[j];
    for (int j = 0; j < count; ++j) b.scores[position + j] = both[kHalf + j];
    position += count;
  }
}

// Elements [begin, begin + 2 * kPairs * kLanes) of the outputs of `kHeads` heads from the task's head `index` on.
template <int kHeads, int kPairs>
inline void paired_values(const AttentionTask& t, int index, const float* inverse_sums, int begin) {
  VecPair sums[kHeads][kPairs];
  HeadOfRow heads[kHeads];
  int common = head_of_row(t, index).length;
  for (int h = 0; h < kHeads; ++h) {
    heads[h] = head_of_row(t, index + h);
    if (heads[h].length < common) common = heads[h].length;
    for (int c = 0; c < kPairs; ++c) sums[h][c] = {set(0.0f), set(0.0f)};
  }
  for_values<uint16_t>(t, 0, common, [&](const uint16_t* values, int position) {
#pragma GCC unroll 2
    for (int c = 0; c < kPairs; ++c) {
      const VecPair v = load_pair(values + begin + 2 * c * kLanes);
#pragma GCC unroll 4
      for (int h = 0; h < kHeads; ++h) {
        const Vec weight = set(heads[h].scores[position]);
        sums[h][c] = {fma(weight, v.even, sums[h][c].even), fma(weight, v.odd, sums[h][c].odd)};
      }
    }
  });
#pragma GCC unroll 4
  for (int h = 0; h < kHeads; ++h) {
    for_values<uint16_t>(t, common, heads[h].length, [&](const uint16_t* values, int position) {
      const Vec weight = set(heads[h].scores[position]);
      for (int c = 0; c < kPairs; ++c) {
        const VecPair v = load_pair(values + begin + 2 * c * kLanes);
        sums[h][c] = {fma(weight, v.even, sums[h][c].even), fma(weight, v.odd, sums[h][c].odd)};
      }
    });
    for (int c = 0; c < kPairs; ++c) {
      Vec low, high;
      join(sums[h][c], low, high);
      const int64_t at = heads[h].out_at + begin + 2 * c * kLanes;
      store_output(t, at, low * set(inverse_sums[h]), first(kLanes));
      store_output(t, at + kLanes, high * set(inverse_sums[h]), first(kLanes));
    }
  }
}

template <int kHeads>
inline void paired_outputs(const AttentionTask& t, int index, const float* inverse_sums) {
  int begin = 0;
  for (; begin + 4 * kLanes <= t.head_dim; begin += 4 * kLanes) paired_values<kHeads, 2>(t, index, inverse_sums, begin);
  for (; begin < t.head_dim; begin += 2 * kLanes) paired_values<kHeads, 1>(t, index, inverse_sums, begin);
}

inline void paired_attention(const AttentionTask& t) {
  const int heads = t.rows * t.heads;
  for (int index = 0; index < heads; index += 2) {
    const HeadOfRow a = head_of_row(t, index);
    scores_of_two(t, a, index + 1 < heads ? head_of_row(t, index + 1) : a);
  }
  for (int index = 0; index < heads;) {
    const int together = heads - index >= 4 ? 4 : heads - index >= 2 ? 2 : 1;
    float inverse_sums[4];
    for (int h = 0; h < together; ++h) {
      const HeadOfRow head = head_of_row(t, index + h);
      inverse_sums[h] = 1.0f / softmax_row(head.scores, 1.0f, head.length);
    }
    switch (together) {
      case 4: paired_outputs<4>(t, index, inverse_sums); break;
      case 2: paired_outputs<2>(t, index, inverse_sums); break;
      default: paired_outputs<1>(t, index, inverse_sums); break;
    }
    index += together;
  }
}
#endif

// One row alone.
template <typename Kv>
inline void attention_of(const AttentionTask& t) {
  all_scores<Kv, false>(t);
  for (int h = 0; h < t.heads; ++h) {
    float* weights = t.scores + h * t.score_stride;
    const float inverse_sum = 1.0f / softmax_row(weights, 1.0f, t.length);
    head_output<Kv>(t, weights, inverse_sum, static_cast<int64_t>(h) * t.head_dim);
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
  by_reading(t, [&](auto r) {
#if defined(ARDIFF_SIMD_PAIRS)
    if constexpr (decltype(r)::paired) {
      paired_attention(t);
      return;
    }
#endif
    for (int row = 0; row < t.rows; ++row) {
      AttentionTask alone = t;
      alone.q = t.q + row * t.q_stride;
      alone.out = static_cast<char*>(t.out) + row * t.out_stride * (t.out_bf16 ? 2 : 4);
      alone.length = t.lengths[row];
      attention_of<typename decltype(r)::Element>(alone);
    }
  });
}

float attention_entropy(const AttentionTask& t) {
  return by_reading(t, [&](auto r) { return entropy_of<typename decltype(r)::Element, decltype(r)::paired>(t); });
}
