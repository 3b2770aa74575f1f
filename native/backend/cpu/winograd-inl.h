// A 3x3 convolution of stride 1 by Winograd's F(2x2, 3x3) (Lavin and Gray 2015): 16 products where the plain sum takes 36.
//
//   V = Bᵀ d B       a tile of 4x4 inputs d, tiles overlapping by two, becomes 16 points; each in bf16
//   M = V U          16 matrix products over the input channels, as gemm-inl.h makes them, U = G g Gᵀ from the weights
//   y = Aᵀ M A       the points become 2x2 outputs
//
//        [1  0 -1  0]          [1  1  1  0]      Points are counted 4 (vertical) + (horizontal). Of an upsampled picture
//   Bᵀ = [0  1  1  0]     Aᵀ = [0  1 -1 -1]      d1 = d2 both ways, so the points with 2 are zero: 9 products are left.
//        [0 -1  1  0]
//        [0  1  0 -1]
//
// Channels of a point stand in groups of 32, even ones before odd ones: so they fall out of vectors of bf16 pairs.

#if defined(ARDIFF_SIMD_BF16)

// One row of tiles [first, first + count) at vertical point `i` into the four points 4 i + j of `inputs`, 32 channels.
inline void winograd_inputs(const WinogradTask& t, int i, int64_t tile_row, int64_t first, int64_t count, int64_t channel, uint16_t* to) {
  // The two rows of the tile that the point takes, and whether it subtracts.
  constexpr int kRow[4] = {0, 1, 2, 1}, kOther[4] = {2, 2, 1, 3};
  const bool subtracts = i != 1;
  const int shift = t.upsampled ? 1 : 0;
  // Null: above or below the picture.
  const auto row_at = [&](int64_t r) {
    r += 2 * tile_row - 1;
    return r < 0 || r >= t.height ? nullptr : t.x + (r >> shift) * (t.width >> shift) * t.in + channel;
  };
  const uint16_t *a = row_at(kRow[i]), *b = row_at(kOther[i]);
  const auto column_at = [&](int64_t column) -> VecPair {
    const VecPair zero = {set(0.0f), set(0.0f)};
    if (column < 0 || column >= t.width) return zero;
    const int64_t at = (column >> shift) * t.in;
    const VecPair p = a ? load_pair(a + at) : zero, q = b ? load_pair(b + at) : zero;
    if (subtracts) return {p.even - q.even, p.odd - q.odd};
    return {p.even + q.even, p.odd + q.odd};
  };
  const auto put = [](uint16_t* point, Vec even, Vec odd) { _mm512_storeu_si512(point, (__m512i)_mm512_cvtne2ps_pbh(odd.v, even.v)); };
  VecPair d0 = column_at(2 * first - 1), d1 = column_at(2 * first);
  for (int64_t tile = 0; tile < count; ++tile, to += t.in) {
    const VecPair d2 = column_at(2 * (first + tile) + 1), d3 = column_at(2 * (first + tile) + 2);
    put(to, d0.even - d2.even, d0.odd - d2.odd);
    put(to + t.input_stride, d1.even + d2.even, d1.odd + d2.odd);
    if (!t.upsampled) put(to + 2 * t.input_stride, d2.even - d1.even, d2.odd - d1.odd);
    put(to + 3 * t.input_stride, d1.even - d3.even, d1.odd - d3.odd);
    d0 = d2;
    d1 = d3;
  }
}

// The outputs of one tile for the kLanes channels at `m` (points kWinogradTiles * kPanelColumns apart), plus bias.
template <bool kUpsampled>
inline void winograd_outputs(const WinogradTask& t, int64_t tile, const float* m, int64_t channel) {
  constexpr int64_t kStride = kWinogradTiles * kPanelColumns;
  Vec s[2][4];
  for (int j = 0; j < 4; ++j) {
    if (kUpsampled && j == 2) continue;
    const Vec m0 = load(m + j * kStride), m1 = load(m + (4 + j) * kStride), m3 = load(m + (12 + j) * kStride);
    if (kUpsampled) {
      s[0][j] = m0 + m1;
      s[1][j] = m1 - m3;
    } else {
      const Vec m2 = load(m + (8 + j) * kStride);
      s[0][j] = m0 + m1 + m2;
      s[1][j] = m1 - m2 - m3;
    }
  }
  const int64_t tiles_across = (t.width + 1) / 2;
  const int64_t top = tile / tiles_across * 2, left = tile % tiles_across * 2;
  const Vec bias = load(t.bias + channel);
  const Count count = first(t.out - channel);
  for (int r = 0; r < 2 && top + r < t.height; ++r) {
    Vec pixels[2] = {s[r][0] + s[r][1], s[r][1] - s[r][3]};
    if (!kUpsampled) pixels[0] = pixels[0] + s[r][2], pixels[1] = s[r][1] - s[r][2] - s[r][3];
    for (int c = 0; c < 2 && left + c < t.width; ++c) {
      float* y = t.y + ((top + r) * t.width + left + c) * t.out + channel;
      const Vec v = pixels[c] + bias;
      store(y, t.adds ? load(y, count) + v : v, count);
    }
  }
}

template <int... kRows>
inline void winograd_products(const WinogradTask& t, int64_t tiles, int64_t panel) {
  using Table = AccumulateTable<Bf16Product, 1, kRows...>;
  const int64_t panels = (t.out + kPanelColumns - 1) / kPanelColumns;
  const int64_t panel_bytes = t.in * kPanelColumns * 2;
  const int64_t blocks = (tiles + kMaxRows - 1) / kMaxRows;
  for (int64_t point = 0; point < kWinogradPoints; ++point) {
    if (t.upsampled && (point / 4 == 2 || point % 4 == 2)) continue;
    const char* weights = static_cast<const char*>(t.weights) + (point * panels + panel) * panel_bytes;
    for (int64_t block = 0; block < blocks; ++block) {
      const int64_t begin = tiles * block / blocks, end = tiles * (block + 1) / blocks;
      Table::at[end - begin](reinterpret_cast<const char*>(t.inputs + point * t.input_stride + begin * t.in), t.in * 2, weights, 0, t.in / 2, true,
                             t.products + (point * kWinogradTiles + begin) * kPanelColumns);
    }
  }
}

void winograd(const WinogradTask& t) {
  const int64_t tiles = t.tile_end - t.tile_begin;
  const int64_t tiles_across = (t.width + 1) / 2;
  for (int64_t done = 0; done < tiles;) {
    const int64_t tile = t.tile_begin + done;
    const int64_t row = tile / tiles_across, first = tile % tiles_across;
    const int64_t count = tiles_across - first < tiles - done ? tiles_across - first : tiles - done;
    for (int64_t channel = 0; channel < t.in; channel += 2 * kLanes) {
      for (int i = 0; i < 4; ++i) {
        if (t.upsampled && i == 2) continue;
        winograd_inputs(t, i, row, first, count, channel, t.inputs + 4 * i * t.input_stride + done * t.in + channel);
      }
    }
    done += count;
  }
  for (int64_t panel = 0; panel * kPanelColumns < t.out; ++panel) {
    winograd_products<1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12>(t, tiles, panel);
    for (int64_t tile = 0; tile < tiles; ++tile) {
      for (int64_t column = 0; column < kPanelColumns && panel * kPanelColumns + column < t.out; column += kLanes) {
        const float* m = t.products + tile * kPanelColumns + column;
        if (t.upsampled) {
          winograd_outputs<true>(t, t.tile_begin + tile, m, panel * kPanelColumns + column);
        } else {
          winograd_outputs<false>(t, t.tile_begin + tile, m, panel * kPanelColumns + column);
        }
      }
    }
  }
}

#endif
