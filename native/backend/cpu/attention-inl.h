// Attention of one row and one kv head. Positions are taken in cache order, kLanes at a time and never across
// a block's end; each score is one chain over the head's elements, each output element one chain over positions.

template <typename Kv>
inline void attention_scores(const AttentionTask& t, const Kv* keys, int64_t position, int count, const float* q, float* scores) {
  Vec sums[kLanes];
  for (int j = 0; j < kLanes; ++j) sums[j] = set(0.0f);
  for (int i = 0; i < t.head_dim; i += kLanes) {
    const Count lanes_left = first(t.head_dim - i);
    const Vec query = load(q + i, lanes_left);
    if (count == kLanes) {
      for (int j = 0; j < kLanes; ++j) sums[j] = fma(query, load(keys + j * t.head_dim + i, lanes_left), sums[j]);
    } else {
      for (int j = 0; j < count; ++j) sums[j] = fma(query, load(keys + j * t.head_dim + i, lanes_left), sums[j]);
    }
  }
  store(scores + position, reduce_each(sums) * set(t.scale), first(count));
}

template <typename Kv>
inline void all_scores(const AttentionTask& t) {
  for (int position = 0; position < t.length;) {
    const int offset = position % t.block_tokens;
    int count = t.block_tokens - offset < kLanes ? t.block_tokens - offset : kLanes;
    if (count > t.length - position) count = t.length - position;
    const Kv* keys = static_cast<const Kv*>(t.keys) + t.blocks[position / t.block_tokens] * t.block_stride + static_cast<int64_t>(offset) * t.head_dim;
    for (int h = 0; h < t.heads; ++h) attention_scores(t, keys, position, count, t.q + h * t.head_dim, t.scores + h * t.score_stride);
    position += count;
  }
}

// Elements [begin, begin + kVectors * kLanes) of one head's output, the last vector with `last` lanes.
template <typename Kv, int kVectors>
inline void weighted_values(const AttentionTask& t, const float* weights, float inverse_sum, int begin, Count last, int64_t out_at) {
  Vec sums[kVectors];
  for (int c = 0; c < kVectors; ++c) sums[c] = set(0.0f);
  for (int position = 0; position < t.length;) {
    int count = t.block_tokens < t.length - position ? t.block_tokens : t.length - position;
    const Kv* values = static_cast<const Kv*>(t.values) + t.blocks[position / t.block_tokens] * t.block_stride + begin;
    for (int j = 0; j < count; ++j, values += t.head_dim) {
      const Vec weight = set(weights[position + j]);
      for (int c = 0; c < kVectors - 1; ++c) sums[c] = fma(weight, load(values + c * kLanes), sums[c]);
      sums[kVectors - 1] = fma(weight, load(values + (kVectors - 1) * kLanes, last), sums[kVectors - 1]);
    }
    position += count;
  }
  for (int c = 0; c < kVectors; ++c) {
    const Count count = c == kVectors - 1 ? last : first(kLanes);
    const Vec v = sums[c] * set(inverse_sum);
    if (t.out_bf16) {
      store(static_cast<uint16_t*>(t.out) + out_at + c * kLanes, v, count);
    } else {
      store(static_cast<float*>(t.out) + out_at + c * kLanes, v, count);
    }
  }
}

template <typename Kv>
inline void attention_of(const AttentionTask& t) {
  all_scores<Kv>(t);
  for (int h = 0; h < t.heads; ++h) {
    float* weights = t.scores + h * t.score_stride;
    const float inverse_sum = 1.0f / softmax_row(weights, 1.0f, t.length);
    for (int begin = 0; begin < t.head_dim;) {
      const int left = (t.head_dim - begin + kLanes - 1) / kLanes;
      const int vectors = left < 4 ? left : 4;
      const Count last = first(t.head_dim - begin - (vectors - 1) * kLanes);
      const int64_t out_at = h * t.head_dim + begin;
      switch (vectors) {
        case 1: weighted_values<Kv, 1>(t, weights, inverse_sum, begin, last, out_at); break;
        case 2: weighted_values<Kv, 2>(t, weights, inverse_sum, begin, last, out_at); break;
        case 3: weighted_values<Kv, 3>(t, weights, inverse_sum, begin, last, out_at); break;
        default: weighted_values<Kv, 4>(t, weights, inverse_sum, begin, last, out_at); break;
      }
      begin += vectors * kLanes;
    }
  }
}

void attention(const AttentionTask& t) {
  if (t.kv_bf16) {
    attention_of<uint16_t>(t);
  } else {
    attention_of<float>(t);
  }
}
