// Attention of rows that see the same positions, as matrix products (gemm-inl.h): scores of a tile of rows, softmax, weighted sums.
// Keys and values are packed into panels once for all rows of a task.
//
//   keys:   panel[k / step][position][k % step]       columns are positions
//   values: panel[position / step][element][...]      columns are elements of the head
//
// A score is one chain over the head's elements, an output element one chain over positions; queries and weights are rounded to
// the product's dtype, the sum of weights is of those before. None of it depends on which rows share a task or a tile.

// Position `position` of keys or values.
template <typename Element>
inline const Element* cached(const AttentionTask& t, const void* base, int position) {
  return static_cast<const Element*>(base) + t.blocks[position / t.block_tokens] * t.block_stride + position % t.block_tokens * static_cast<int64_t>(t.head_dim);
}

// Words of four bytes: a float, or a pair of bf16.
inline uint32_t word(const float* x) {
  uint32_t out;
  __builtin_memcpy(&out, x, sizeof out);
  return out;
}
inline uint32_t word(uint16_t low, uint16_t high) { return low | static_cast<uint32_t>(high) << 16; }

// rows[i][j] to columns[j][i] for kLanes rows of kLanes words; a column every `stride` words.
inline void transpose_words(const uint32_t* const* rows, uint32_t* columns, int64_t stride) {
#if defined(ARDIFF_SIMD_AVX512)
  __m512i a[16], b[16];
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) a[i] = _mm512_loadu_si512(rows[i]);
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) {
    b[2 * i] = _mm512_unpacklo_epi32(a[2 * i], a[2 * i + 1]);
    b[2 * i + 1] = _mm512_unpackhi_epi32(a[2 * i], a[2 * i + 1]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 16; i += 4) {
    a[i] = _mm512_unpacklo_epi64(b[i], b[i + 2]);
    a[i + 1] = _mm512_unpackhi_epi64(b[i], b[i + 2]);
    a[i + 2] = _mm512_unpacklo_epi64(b[i + 1], b[i + 3]);
    a[i + 3] = _mm512_unpackhi_epi64(b[i + 1], b[i + 3]);
  }
  // a[4 g + j] has in its quarter c the words 4 c + j of the rows 4 g ... 4 g + 3.
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j) {
    const __m512i low = _mm512_shuffle_i32x4(a[j], a[4 + j], 0x88), high = _mm512_shuffle_i32x4(a[j], a[4 + j], 0xdd);
    const __m512i low_after = _mm512_shuffle_i32x4(a[8 + j], a[12 + j], 0x88), high_after = _mm512_shuffle_i32x4(a[8 + j], a[12 + j], 0xdd);
    _mm512_storeu_si512(columns + j * stride, _mm512_shuffle_i32x4(low, low_after, 0x88));
    _mm512_storeu_si512(columns + (4 + j) * stride, _mm512_shuffle_i32x4(high, high_after, 0x88));
    _mm512_storeu_si512(columns + (8 + j) * stride, _mm512_shuffle_i32x4(low, low_after, 0xdd));
    _mm512_storeu_si512(columns + (12 + j) * stride, _mm512_shuffle_i32x4(high, high_after, 0xdd));
  }
#else
  for (int j = 0; j < kLanes; ++j) {
    for (int i = 0; i < kLanes; ++i) columns[j * stride + i] = rows[i][j];
  }
#endif
}

template <typename Product>
inline void pack_keys(const AttentionTask& t, uint32_t* panels) {
  using Element = typename Product::Element;
  constexpr int kStep = Product::kStep;
  const int words = (t.head_dim + kStep - 1) / kStep, whole = t.head_dim / kStep / kLanes * kLanes;
  for (int begin = 0; begin < t.length; begin += kLanes) {
    const int count = t.length - begin < kLanes ? t.length - begin : kLanes;
    const Element* key[kLanes];
    for (int i = 0; i < count; ++i) key[i] = cached<Element>(t, t.keys, begin + i);
    uint32_t* to = panels + begin / kPanelColumns * kPanelColumns * static_cast<int64_t>(words) + begin % kPanelColumns;
    int at = 0;
    if (count == kLanes) {
      for (; at < whole; at += kLanes) {
        const uint32_t* rows[kLanes];
        for (int i = 0; i < kLanes; ++i) rows[i] = reinterpret_cast<const uint32_t*>(key[i] + at * kStep);
        transpose_words(rows, to + at * kPanelColumns, kPanelColumns);
      }
    }
    for (; at < words; ++at) {
      for (int i = 0; i < kLanes; ++i) {
        uint32_t value = 0;
        if (i < count) {
          if constexpr (kStep == 2) {
            value = word(key[i][2 * at], 2 * at + 1 < t.head_dim ? key[i][2 * at + 1] : uint16_t{0});
          } else {
            value = word(key[i] + at);
          }
        }
        to[at * kPanelColumns + i] = value;
      }
    }
  }
  // Where the last panel has columns that no group of positions has touched.
  const int done = (t.length + kLanes - 1) / kLanes * kLanes, end = (t.length + kPanelColumns - 1) / kPanelColumns * kPanelColumns;
  uint32_t* last = panels + (end - kPanelColumns) * static_cast<int64_t>(words);
  for (int at = 0; at < words; ++at) {
    for (int i = done; i < end; ++i) last[at * kPanelColumns + i % kPanelColumns] = 0;
  }
}

template <typename Product>
inline void pack_values(const AttentionTask& t, uint32_t* panels) {
  using Element = typename Product::Element;
  constexpr int kStep = Product::kStep;
  const int steps = (t.length + kStep - 1) / kStep;
  for (int step = 0; step < steps; ++step) {
    const Element* value = cached<Element>(t, t.values, step * kStep);
    const Element* next = kStep == 2 && 2 * step + 1 < t.length ? cached<Element>(t, t.values, 2 * step + 1) : nullptr;
    for (int column = 0; column < t.head_dim; column += kPanelColumns) {
      uint32_t* to = panels + (column * static_cast<int64_t>(steps) + step * kPanelColumns);
      const int count = t.head_dim - column < kPanelColumns ? t.head_dim - column : kPanelColumns;
      if constexpr (kStep == 2) {
        if (next) {
          for (int i = 0; i < count; ++i) to[i] = word(value[column + i], next[column + i]);
        } else {
          for (int i = 0; i < count; ++i) to[i] = value[column + i];
        }
      } else {
        for (int i = 0; i < count; ++i) to[i] = word(value + column + i);
      }
      for (int i = count; i < kPanelColumns; ++i) to[i] = 0;
    }
  }
}

// Weights e^(scale (s - largest)) of a row whose scores lie in panels; those past the end of the last vector are 0. Returns their sum.
template <typename Element>
inline float softmax_of_panels(const float* scores, int64_t panel_stride, float scale, int64_t n, Element* weights) {
  const auto at = [&](int64_t i) { return load(scores + i / kPanelColumns * panel_stride + i % kPanelColumns); };
  Vec largest = set(scores[0]);
  for_vectors(n, [&](int64_t i, Count count) { largest = max(largest, select(count, at(i), largest)); });
  const Vec most = set(reduce_max(largest));
  return sum_over(n, [&](int64_t i, Count count) {
    const Vec e = select(count, exp((at(i) - most) * set(scale)), set(0.0f));
    store(weights + i, e);
    return e;
  });
}

// A head of a row, counted over the task's rows.
struct TiledRow {
  const float* q;
  int64_t out_at;
};

inline TiledRow tiled_row(const AttentionTask& t, int index) {
  const int row = index / t.heads, at = index % t.heads * t.head_dim;
  return {t.q + row * t.q_stride + at, row * t.out_stride + at};
}

template <typename Product>
void tiled_attention(const AttentionTask& t, const TiledAttentionMemory& memory) {
  using Element = typename Product::Element;
#if defined(ARDIFF_SIMD_AVX512)
  using Table = AccumulateTable<Product, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12>;
#else
  using Table = AccumulateTable<Product, 1, 1, 2, 3, 4, 5, 6>;
#endif
  constexpr int64_t kStep = Product::kStep, kSize = sizeof(Element);
  const int64_t key_steps = (t.head_dim + kStep - 1) / kStep, value_steps = (t.length + kStep - 1) / kStep;
  const int64_t position_panels = (t.length + kPanelColumns - 1) / kPanelColumns;
  const int64_t weight_stride = position_panels * kPanelColumns, query_stride = key_steps * kStep;
  constexpr int64_t kScorePanel = kMaxRows * kPanelColumns;
  auto* keys = static_cast<uint32_t*>(memory.keys);
  auto* values = static_cast<uint32_t*>(memory.values);
  auto* queries = static_cast<Element*>(memory.queries);
  auto* weights = static_cast<Element*>(memory.weights);
  pack_keys<Product>(t, keys);
  pack_values<Product>(t, values);

  const int rows = t.rows * t.heads, tiles = (rows + kMaxRows - 1) / kMaxRows;
  for (int tile = 0; tile < tiles; ++tile) {
    const int begin = static_cast<int>(int64_t{rows} * tile / tiles), end = static_cast<int>(int64_t{rows} * (tile + 1) / tiles);
    for (int r = 0; r < end - begin; ++r) {
      Element* query = queries + r * query_stride;
      query[query_stride - 1] = 0;
      for_vectors(t.head_dim, [&](int64_t i, Count count) { store(query + i, load(tiled_row(t, begin + r).q + i, count), count); });
    }
    // The next tile's, whose rows lie pages apart.
    for (int r = end; r < end + kMaxRows && r < rows; ++r) {
      const float* next = tiled_row(t, r).q;
      for (int i = 0; i < t.head_dim; i += 16) __builtin_prefetch(next + i);
    }
    for (int64_t panel = 0; panel < position_panels; ++panel) {
      Table::at[end - begin](reinterpret_cast<const char*>(queries), query_stride * kSize, reinterpret_cast<const char*>(keys + panel * kPanelColumns * key_steps), 0,
                             key_steps, true, memory.scores + panel * kScorePanel);
    }
    float inverse_sums[kMaxRows];
    for (int r = 0; r < end - begin; ++r) {
      inverse_sums[r] = 1.0f / softmax_of_panels(memory.scores + r * kPanelColumns, kScorePanel, t.scale, t.length, weights + r * weight_stride);
    }
    for (int column = 0; column < t.head_dim; column += kPanelColumns) {
      alignas(64) float sums[kMaxRows * kPanelColumns];
      Table::at[end - begin](reinterpret_cast<const char*>(weights), weight_stride * kSize, reinterpret_cast<const char*>(values + column * value_steps), 0, value_steps,
                             true, sums);
      const int64_t count = t.head_dim - column < kPanelColumns ? t.head_dim - column : kPanelColumns;
      for (int r = 0; r < end - begin; ++r) {
        const int64_t at = tiled_row(t, begin + r).out_at + column;
        for_vectors(count, [&](int64_t i, Count lanes) { store_output(t, at + i, load(sums + r * kPanelColumns + i) * set(inverse_sums[r]), lanes); });
      }
    }
  }
}
