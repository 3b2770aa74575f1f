// Matrix products over packed panels; see GemmTask in kernels.h for the layout and the promise about bits.
//
// A tile is `kRows` rows times `kPanels` panels of two vectors each, all of it in registers:
//
//            panel 0      panel 1
//   row 0   [acc acc]    [acc acc]      few rows take several panels at once, because a multiply-add
//   row 1   [acc acc]    [acc acc]      must wait for the one before it and only independent ones overlap

constexpr int kPanelColumns = 2 * kLanes;
#if defined(ARDIFF_SIMD_AVX512)
constexpr int kMaxRows = 12;  // 24 accumulators of 32 registers
#else
constexpr int kMaxRows = 6;   // 12 of 16
#endif
// Depth of one block, such that its piece of a panel stays in the second-level cache while row tiles pass.
constexpr int64_t kBlockBytes = 256 * 1024;

struct F32Product {
  using Element = float;
  static constexpr int64_t kStep = 1;  // depths per multiply-add
  static Vec multiply_add(Vec acc, const char* x, const char* w) { return fma(set(*reinterpret_cast<const float*>(x)), load(reinterpret_cast<const float*>(w)), acc); }
};

#if defined(ARDIFF_SIMD_BF16)
struct Bf16Product {
  using Element = uint16_t;
  static constexpr int64_t kStep = 2;
  static Vec multiply_add(Vec acc, const char* x, const char* w) {
    int32_t pair;
    __builtin_memcpy(&pair, x, sizeof pair);
    return {_mm512_dpbf16_ps(acc.v, (__m512bh)_mm512_set1_epi32(pair), (__m512bh)_mm512_loadu_si512(w))};
  }
};
#endif

// r + bias through the epilogue into y, for columns the `count` says.
template <typename Y>
inline void finish(Vec r, EpilogueKind kind, Y* y, const float* gate, Count count) {
  switch (kind) {
    case EpilogueKind::kStore: break;
    case EpilogueKind::kSilu: r = silu(r); break;
    case EpilogueKind::kGelu: r = gelu(r); break;
    case EpilogueKind::kAdd: r = load(y, count) + r; break;
    case EpilogueKind::kGatedAdd: r = load(y, count) + load(gate, count) * r; break;
  }
  store(y, r, count);
}

template <typename Y>
inline void finish_row(const float* r, const float* bias, EpilogueKind kind, Y* y, const float* gate, int64_t n) {
  for (int64_t i = 0; i < n; i += kLanes) finish(load(r + i) + load(bias + i), kind, y + i, gate ? gate + i : nullptr, first(n - i));
}

// One row of one tile into y, starting at output `column`.
inline void finish_tile_row(const GemmTask& task, const float* r, int64_t row, int64_t column, int64_t n) {
  if (n > task.columns - column) n = task.columns - column;
  const float* gate = task.gate ? task.gate + (task.gate_rows ? task.gate_rows[row] : row) * task.gate_stride + column : nullptr;
  const int64_t at = row * task.y_stride + column;
  if (task.y_bf16) {
    finish_row(r, task.bias + column, task.kind, static_cast<uint16_t*>(task.y) + at, gate, n);
  } else {
    finish_row(r, task.bias + column, task.kind, static_cast<float*>(task.y) + at, gate, n);
  }
}

// Asks for the piece of row `row` of y that finish_tile_row will add to, and of its gate: their rows lie pages apart, which no
// processor sees coming. always_inline: gcc 12 drops calls of a function that does nothing but this.
__attribute__((always_inline)) inline void prefetch_tile_row(const GemmTask& task, int64_t row, int64_t column) {
  const int64_t size = task.y_bf16 ? 2 : 4;
  const char* y = static_cast<const char*>(task.y) + (row * task.y_stride + column) * size;
  for (int64_t at = 0; at < kPanelColumns * size; at += 64) __builtin_prefetch(y + at, 1);
  if (!task.gate) return;
  const char* gate = reinterpret_cast<const char*>(task.gate + (task.gate_rows ? task.gate_rows[row] : row) * task.gate_stride + column);
  for (int64_t at = 0; at < kPanelColumns * 4; at += 64) __builtin_prefetch(gate + at);
}

// acc = partial (or 0 if `from_zero`) + x W over `steps`; partial rows are kPanels * kPanelColumns apart.
template <typename Product, int kRows, int kPanels>
inline void accumulate(const char* x, int64_t x_stride, const char* panel, int64_t panel_stride, int64_t steps, bool from_zero, float* partial) {
  constexpr int64_t kVectorBytes = kLanes * 4;
  constexpr int64_t kXBytes = 4;  // one float or one bf16 pair a step
  Vec acc[kRows][2 * kPanels];
  for (int r = 0; r < kRows; ++r) {
    for (int c = 0; c < 2 * kPanels; ++c) acc[r][c] = from_zero ? set(0.0f) : load(partial + r * kPanels * kPanelColumns + c * kLanes);
  }
  // Rows 3 i, 3 i + 1, 3 i + 2 share a pointer: twelve pointers would not fit the registers.
  const char* group[(kRows + 2) / 3];
  for (int i = 0; i < (kRows + 2) / 3; ++i) group[i] = x + 3 * i * x_stride;
  for (int64_t step = 0; step < steps; ++step) {
    for (int r = 0; r < kRows; ++r) {
      const char* value = group[r / 3] + (r % 3) * x_stride + step * kXBytes;
      for (int c = 0; c < 2 * kPanels; ++c) {
        acc[r][c] = Product::multiply_add(acc[r][c], value, panel + (c / 2) * panel_stride + (c % 2) * kVectorBytes);
      }
    }
    panel += 2 * kVectorBytes;
  }
  for (int r = 0; r < kRows; ++r) {
    for (int c = 0; c < 2 * kPanels; ++c) store(partial + r * kPanels * kPanelColumns + c * kLanes, acc[r][c]);
  }
}

using Accumulate = void (*)(const char*, int64_t, const char*, int64_t, int64_t, bool, float*);

template <typename Product, int kPanels, int... kRows>
struct AccumulateTable {
  static constexpr Accumulate at[] = {nullptr, accumulate<Product, kRows, kPanels>...};
};

// `rows` rows times kPanels whole-depth panels: for rows that fit one tile, or one tile of a block.
template <typename Product, int kPanels>
inline void tile_of_panels(const GemmTask& task, Accumulate run, int64_t panel, int64_t panel_bytes) {
  alignas(64) float result[kMaxRows * kPanels * kPanelColumns];
  const int64_t x_stride = task.x_stride * static_cast<int64_t>(sizeof(typename Product::Element));
  run(static_cast<const char*>(task.x), x_stride, static_cast<const char*>(task.panels) + panel * panel_bytes, panel_bytes,
      task.depth / Product::kStep, true, result);
  for (int64_t row = 0; row < task.rows; ++row) {
    finish_tile_row(task, result + row * kPanels * kPanelColumns, row, panel * kPanelColumns, kPanels * kPanelColumns);
  }
}

// Few rows: one pass over the weights, as many panels abreast as registers allow. No prefetch instructions: the
// processor follows these streams by itself, and asking cost up to a fifth where weights come from the L3 cache.
constexpr int kFewRows = kMaxRows / 2;  // that fit two panels

template <typename Product>
inline void gemm_few_rows(const GemmTask& task, int64_t panel_bytes) {
  using Four = AccumulateTable<Product, kMaxRows / 3, 1>;
#if defined(ARDIFF_SIMD_AVX512)
  using Two = AccumulateTable<Product, 2, 1, 2, 3, 4, 5, 6>;
  using One = AccumulateTable<Product, 1, 1, 2, 3, 4, 5, 6>;
#else
  using Two = AccumulateTable<Product, 2, 1, 2, 3>;
  using One = AccumulateTable<Product, 1, 1, 2, 3>;
#endif
  int64_t panel = task.panel_begin;
  if (task.rows == 1) {
    for (; panel + kMaxRows / 3 <= task.panel_end; panel += kMaxRows / 3) tile_of_panels<Product, kMaxRows / 3>(task, Four::at[1], panel, panel_bytes);
  }
  for (; panel + 2 <= task.panel_end; panel += 2) tile_of_panels<Product, 2>(task, Two::at[task.rows], panel, panel_bytes);
  for (; panel < task.panel_end; ++panel) tile_of_panels<Product, 1>(task, One::at[task.rows], panel, panel_bytes);
}

// Many rows: blocks of rows, blocks of depth, tiles of rows. Partial sums wait in task.partial between depth blocks.
template <typename Product>
inline void gemm_many_rows(const GemmTask& task, int64_t panel_bytes) {
#if defined(ARDIFF_SIMD_AVX512)
  using Table = AccumulateTable<Product, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12>;
#else
  using Table = AccumulateTable<Product, 1, 1, 2, 3, 4, 5, 6>;
#endif
  const bool adds = task.kind == EpilogueKind::kAdd || task.kind == EpilogueKind::kGatedAdd;
  const int64_t steps = task.depth / Product::kStep;
  const int64_t step_bytes = kPanelColumns * 4;
  const int64_t block_steps = kBlockBytes / step_bytes;
  const int64_t x_stride = task.x_stride * static_cast<int64_t>(sizeof(typename Product::Element));
  for (int64_t panel = task.panel_begin; panel < task.panel_end; ++panel) {
    const char* weights = static_cast<const char*>(task.panels) + panel * panel_bytes;
    for (int64_t block = 0; block < task.rows; block += kGemmBlockRows) {
      const int64_t rows = task.rows - block < kGemmBlockRows ? task.rows - block : kGemmBlockRows;
      const int64_t tiles = (rows + kMaxRows - 1) / kMaxRows;
      for (int64_t done = 0; done < steps; done += block_steps) {
        const int64_t now = steps - done < block_steps ? steps - done : block_steps;
        for (int64_t tile = 0; tile < tiles; ++tile) {
          const int64_t begin = rows * tile / tiles;
          const int64_t end = rows * (tile + 1) / tiles;
          float* partial = task.partial + begin * kPanelColumns;
          if (done + now == steps && adds) {
            for (int64_t row = begin; row < end; ++row) prefetch_tile_row(task, block + row, panel * kPanelColumns);
          }
          Table::at[end - begin](static_cast<const char*>(task.x) + (block + begin) * x_stride + done * 4, x_stride, weights + done * step_bytes, 0,
                                 now, done == 0, partial);
          if (done + now < steps) continue;
          for (int64_t row = begin; row < end; ++row) {
            finish_tile_row(task, task.partial + row * kPanelColumns, block + row, panel * kPanelColumns, kPanelColumns);
          }
        }
      }
    }
  }
}

template <typename Product>
void gemm(const GemmTask& task) {
  const int64_t panel_bytes = task.depth * kPanelColumns * static_cast<int64_t>(sizeof(typename Product::Element));
  if (task.rows <= kFewRows) {
    gemm_few_rows<Product>(task, panel_bytes);
  } else {
    gemm_many_rows<Product>(task, panel_bytes);
  }
}

void epilogue(const float* r, const float* bias, EpilogueKind kind, const float* gate, int64_t n, void* y, bool y_bf16) {
  if (y_bf16) {
    finish_row(r, bias, kind, static_cast<uint16_t*>(y), gate, n);
  } else {
    finish_row(r, bias, kind, static_cast<float*>(y), gate, n);
  }
}
