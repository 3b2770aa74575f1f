// A float vector per instruction set. Included once by each kernels_<isa>.cpp, which names the set by
// defining one of ARDIFF_SIMD_AVX512, ARDIFF_SIMD_AVX2 or neither, inside its own anonymous namespace.
//
// min and max return their second argument where either is NaN, so max(limit, x) lets a NaN of x through.

#if defined(ARDIFF_SIMD_AVX512)

constexpr int kLanes = 16;
struct Vec { __m512 v; };
using Count = __mmask16;  // the first n lanes

inline Count first(int64_t n) { return n >= kLanes ? Count(0xffff) : Count((1u << n) - 1u); }
inline Vec set(float s) { return {_mm512_set1_ps(s)}; }
inline Vec load(const float* p) { return {_mm512_loadu_ps(p)}; }
inline Vec load(const float* p, Count n) { return {_mm512_maskz_loadu_ps(n, p)}; }
inline void store(float* p, Vec a) { _mm512_storeu_ps(p, a.v); }
inline void store(float* p, Vec a, Count n) { _mm512_mask_storeu_ps(p, n, a.v); }
inline Vec from_bf16(__m256i h) { return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16))}; }
inline Vec load(const uint16_t* p) { return from_bf16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))); }
inline Vec load(const uint16_t* p, Count n) { return from_bf16(_mm256_maskz_loadu_epi16(n, p)); }
// 32 elements as those of even and of odd index: a bf16 pair is one float's two halves, so no shuffle is needed.
#define ARDIFF_SIMD_PAIRS 1
struct VecPair { Vec even, odd; };
inline VecPair load_pair(const uint16_t* p) {
  const __m512i pairs = _mm512_loadu_si512(p);
  return {{_mm512_castsi512_ps(_mm512_slli_epi32(pairs, 16))}, {_mm512_castsi512_ps(_mm512_and_si512(pairs, _mm512_set1_epi32(-0x10000)))}};
}
inline VecPair split(Vec a, Vec b) {
  const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
  const __m512i odd = _mm512_add_epi32(even, _mm512_set1_epi32(1));
  return {{_mm512_permutex2var_ps(a.v, even, b.v)}, {_mm512_permutex2var_ps(a.v, odd, b.v)}};
}
inline void join(VecPair pair, Vec& a, Vec& b) {
  const __m512i low = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
  const __m512i high = _mm512_add_epi32(low, _mm512_set1_epi32(8));
  a = {_mm512_permutex2var_ps(pair.even.v, low, pair.odd.v)};
  b = {_mm512_permutex2var_ps(pair.even.v, high, pair.odd.v)};
}
inline __m256i to_bf16(Vec a) {
#if defined(ARDIFF_SIMD_BF16)
  return (__m256i)_mm512_cvtneps_pbh(a.v);
#else
  const __m512i bits = _mm512_castps_si512(a.v);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  const __m512i rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
  const __mmask16 nan = _mm512_cmp_ps_mask(a.v, a.v, _CMP_UNORD_Q);
  const __m512i quiet = _mm512_or_si512(bits, _mm512_set1_epi32(0x400000));
  return _mm512_cvtepi32_epi16(_mm512_srli_epi32(_mm512_mask_blend_epi32(nan, rounded, quiet), 16));
#endif
}
inline void store(uint16_t* p, Vec a) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), to_bf16(a)); }
inline void store(uint16_t* p, Vec a, Count n) { _mm256_mask_storeu_epi16(p, n, to_bf16(a)); }
inline Vec operator+(Vec a, Vec b) { return {_mm512_add_ps(a.v, b.v)}; }
inline Vec operator-(Vec a, Vec b) { return {_mm512_sub_ps(a.v, b.v)}; }
inline Vec operator*(Vec a, Vec b) { return {_mm512_mul_ps(a.v, b.v)}; }
inline Vec operator/(Vec a, Vec b) { return {_mm512_div_ps(a.v, b.v)}; }
inline Vec fma(Vec a, Vec b, Vec c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
inline Vec min(Vec a, Vec b) { return {_mm512_min_ps(a.v, b.v)}; }
inline Vec max(Vec a, Vec b) { return {_mm512_max_ps(a.v, b.v)}; }
inline Vec sqrt(Vec a) { return {_mm512_sqrt_ps(a.v)}; }
inline Vec round(Vec a) { return {_mm512_roundscale_ps(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)}; }
// a in the first n lanes, b in the rest.
inline Vec select(Count n, Vec a, Vec b) { return {_mm512_mask_blend_ps(n, b.v, a.v)}; }
inline Vec where_less(Vec a, Vec b, Vec yes, Vec no) { return {_mm512_mask_blend_ps(_mm512_cmp_ps_mask(a.v, b.v, _CMP_LT_OQ), no.v, yes.v)}; }
// a * 2^n for integral n in [-126, 127].
inline Vec scale_by_power(Vec a, Vec n) { return {_mm512_scalef_ps(a.v, n.v)}; }
inline float reduce_add(Vec a) {
  const __m256 half = _mm256_add_ps(_mm512_castps512_ps256(a.v), _mm512_extractf32x8_ps(a.v, 1));
  const __m128 quarter = _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
  const __m128 pair = _mm_add_ps(quarter, _mm_movehl_ps(quarter, quarter));
  return _mm_cvtss_f32(_mm_add_ss(pair, _mm_shuffle_ps(pair, pair, 1)));
}
inline float reduce_max(Vec a) { return _mm512_reduce_max_ps(a.v); }
// Lane j of the result is the sum over all lanes of a[j].
inline Vec reduce_each(const Vec* a) {
  __m512 s[8], t[4];
  for (int i = 0; i < 8; ++i) s[i] = _mm512_add_ps(_mm512_unpacklo_ps(a[2 * i].v, a[2 * i + 1].v), _mm512_unpackhi_ps(a[2 * i].v, a[2 * i + 1].v));
  for (int i = 0; i < 4; ++i) {
    const __m512d lo = _mm512_castps_pd(s[2 * i]), hi = _mm512_castps_pd(s[2 * i + 1]);
    t[i] = _mm512_add_ps(_mm512_castpd_ps(_mm512_unpacklo_pd(lo, hi)), _mm512_castpd_ps(_mm512_unpackhi_pd(lo, hi)));
  }
  const __m512 u = _mm512_add_ps(_mm512_shuffle_f32x4(t[0], t[1], 0x44), _mm512_shuffle_f32x4(t[0], t[1], 0xee));
  const __m512 w = _mm512_add_ps(_mm512_shuffle_f32x4(t[2], t[3], 0x44), _mm512_shuffle_f32x4(t[2], t[3], 0xee));
  return {_mm512_add_ps(_mm512_shuffle_f32x4(u, w, 0x88), _mm512_shuffle_f32x4(u, w, 0xdd))};
}

#elif defined(ARDIFF_SIMD_AVX2)

constexpr int kLanes = 8;
struct Vec { __m256 v; };
struct Count { int n; };

inline Count first(int64_t n) { return {n >= kLanes ? kLanes : static_cast<int>(n)}; }
inline __m256i mask(Count n) { return _mm256_cmpgt_epi32(_mm256_set1_epi32(n.n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)); }
inline Vec set(float s) { return {_mm256_set1_ps(s)}; }
inline Vec load(const float* p) { return {_mm256_loadu_ps(p)}; }
inline Vec load(const float* p, Count n) { return {_mm256_maskload_ps(p, mask(n))}; }
inline void store(float* p, Vec a) { _mm256_storeu_ps(p, a.v); }
inline void store(float* p, Vec a, Count n) { _mm256_maskstore_ps(p, mask(n), a.v); }
inline Vec load(const uint16_t* p) {
  return {_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))), 16))};
}
inline Vec load(const uint16_t* p, Count n) {
  uint16_t buffer[kLanes] = {};
  for (int i = 0; i < n.n; ++i) buffer[i] = p[i];
  return load(buffer);
}
inline void store(uint16_t* p, Vec a) {
  const __m256i bits = _mm256_castps_si256(a.v);
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  const __m256i rounded = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
  const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(a.v, a.v, _CMP_UNORD_Q));
  const __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
  const __m256i high = _mm256_srli_epi32(_mm256_blendv_epi8(rounded, quiet, nan), 16);
  const __m128i packed = _mm_packus_epi32(_mm256_castsi256_si128(high), _mm256_extracti128_si256(high, 1));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), packed);
}
inline void store(uint16_t* p, Vec a, Count n) {
  uint16_t buffer[kLanes];
  store(buffer, a);
  for (int i = 0; i < n.n; ++i) p[i] = buffer[i];
}
inline Vec operator+(Vec a, Vec b) { return {_mm256_add_ps(a.v, b.v)}; }
inline Vec operator-(Vec a, Vec b) { return {_mm256_sub_ps(a.v, b.v)}; }
inline Vec operator*(Vec a, Vec b) { return {_mm256_mul_ps(a.v, b.v)}; }
inline Vec operator/(Vec a, Vec b) { return {_mm256_div_ps(a.v, b.v)}; }
inline Vec fma(Vec a, Vec b, Vec c) { return {_mm256_fmadd_ps(a.v, b.v, c.v)}; }
inline Vec min(Vec a, Vec b) { return {_mm256_min_ps(a.v, b.v)}; }
inline Vec max(Vec a, Vec b) { return {_mm256_max_ps(a.v, b.v)}; }
inline Vec sqrt(Vec a) { return {_mm256_sqrt_ps(a.v)}; }
inline Vec round(Vec a) { return {_mm256_round_ps(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)}; }
inline Vec select(Count n, Vec a, Vec b) { return {_mm256_blendv_ps(b.v, a.v, _mm256_castsi256_ps(mask(n)))}; }
inline Vec where_less(Vec a, Vec b, Vec yes, Vec no) { return {_mm256_blendv_ps(no.v, yes.v, _mm256_cmp_ps(a.v, b.v, _CMP_LT_OQ))}; }
inline Vec scale_by_power(Vec a, Vec n) {
  const __m256i exponent = _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n.v), _mm256_set1_epi32(127)), 23);
  return {_mm256_mul_ps(a.v, _mm256_castsi256_ps(exponent))};
}
inline float reduce_add(Vec a) {
  const __m128 quarter = _mm_add_ps(_mm256_castps256_ps128(a.v), _mm256_extractf128_ps(a.v, 1));
  const __m128 pair = _mm_add_ps(quarter, _mm_movehl_ps(quarter, quarter));
  return _mm_cvtss_f32(_mm_add_ss(pair, _mm_shuffle_ps(pair, pair, 1)));
}
inline float reduce_max(Vec a) {
  float lanes[kLanes];
  store(lanes, a);
  float m = lanes[0];
  for (int i = 1; i < kLanes; ++i) m = lanes[i] > m ? lanes[i] : m;
  return m;
}
inline Vec reduce_each(const Vec* a) {
  __m256 s[4];
  for (int i = 0; i < 4; ++i) s[i] = _mm256_hadd_ps(a[2 * i].v, a[2 * i + 1].v);
  const __m256 t = _mm256_hadd_ps(s[0], s[1]), u = _mm256_hadd_ps(s[2], s[3]);
  return {_mm256_add_ps(_mm256_permute2f128_ps(t, u, 0x20), _mm256_permute2f128_ps(t, u, 0x31))};
}

#else  // any processor: four lanes, which every compiler turns into the baseline's vectors

constexpr int kLanes = 4;
struct Vec { float v[kLanes]; };
struct Count { int n; };

// The result whose lane i is f(i).
template <typename F>
inline Vec lanes(F f) {
  Vec out;
  for (int i = 0; i < kLanes; ++i) out.v[i] = f(i);
  return out;
}
inline float widen(uint16_t h) {
  const uint32_t bits = static_cast<uint32_t>(h) << 16;
  float out;
  __builtin_memcpy(&out, &bits, sizeof out);
  return out;
}
inline uint16_t narrow(float f) {
  uint32_t bits;
  __builtin_memcpy(&bits, &f, sizeof bits);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<uint16_t>((bits >> 16) | 0x40u);
  return static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}
inline Count first(int64_t n) { return {n >= kLanes ? kLanes : static_cast<int>(n)}; }
inline Vec set(float s) { return lanes([&](int) { return s; }); }
inline Vec load(const float* p) { return lanes([&](int i) { return p[i]; }); }
inline Vec load(const float* p, Count n) { return lanes([&](int i) { return i < n.n ? p[i] : 0.0f; }); }
inline Vec load(const uint16_t* p) { return lanes([&](int i) { return widen(p[i]); }); }
inline Vec load(const uint16_t* p, Count n) { return lanes([&](int i) { return i < n.n ? widen(p[i]) : 0.0f; }); }
inline void store(float* p, Vec a, Count n) { for (int i = 0; i < n.n; ++i) p[i] = a.v[i]; }
inline void store(float* p, Vec a) { store(p, a, Count{kLanes}); }
inline void store(uint16_t* p, Vec a, Count n) { for (int i = 0; i < n.n; ++i) p[i] = narrow(a.v[i]); }
inline void store(uint16_t* p, Vec a) { store(p, a, Count{kLanes}); }
inline Vec operator+(Vec a, Vec b) { return lanes([&](int i) { return a.v[i] + b.v[i]; }); }
inline Vec operator-(Vec a, Vec b) { return lanes([&](int i) { return a.v[i] - b.v[i]; }); }
inline Vec operator*(Vec a, Vec b) { return lanes([&](int i) { return a.v[i] * b.v[i]; }); }
inline Vec operator/(Vec a, Vec b) { return lanes([&](int i) { return a.v[i] / b.v[i]; }); }
inline Vec fma(Vec a, Vec b, Vec c) { return a * b + c; }
inline Vec min(Vec a, Vec b) { return lanes([&](int i) { return a.v[i] < b.v[i] ? a.v[i] : b.v[i]; }); }
inline Vec max(Vec a, Vec b) { return lanes([&](int i) { return a.v[i] > b.v[i] ? a.v[i] : b.v[i]; }); }
inline Vec sqrt(Vec a) { return lanes([&](int i) { return __builtin_sqrtf(a.v[i]); }); }
inline Vec round(Vec a) { return lanes([&](int i) { return __builtin_nearbyintf(a.v[i]); }); }
inline Vec select(Count n, Vec a, Vec b) { return lanes([&](int i) { return i < n.n ? a.v[i] : b.v[i]; }); }
inline Vec where_less(Vec a, Vec b, Vec yes, Vec no) { return lanes([&](int i) { return a.v[i] < b.v[i] ? yes.v[i] : no.v[i]; }); }
inline Vec scale_by_power(Vec a, Vec n) {
  return lanes([&](int i) {
    // A NaN of n is a NaN of a: any exponent will do, but converting it would be undefined.
    const uint32_t exponent = n.v[i] == n.v[i] ? static_cast<uint32_t>(static_cast<int>(n.v[i]) + 127) << 23 : 0;
    float power;
    __builtin_memcpy(&power, &exponent, sizeof power);
    return a.v[i] * power;
  });
}
inline float reduce_add(Vec a) { return (a.v[0] + a.v[2]) + (a.v[1] + a.v[3]); }
inline float reduce_max(Vec a) {
  float m = a.v[0];
  for (int i = 1; i < kLanes; ++i) m = a.v[i] > m ? a.v[i] : m;
  return m;
}
inline Vec reduce_each(const Vec* a) { return lanes([&](int i) { return reduce_add(a[i]); }); }

#endif

// exp(x), relative error below 2e-7; x is clamped to [-87.3, 88.3], so 0 and inf are not reached. NaN stays.
inline Vec exp(Vec x) {
  x = min(set(88.3f), max(set(-87.3f), x));
  const Vec n = round(x * set(1.44269504f));
  // ln 2 in two parts, the first with few bits: n * part is exact.
  Vec r = fma(n, set(-0.693359375f), x);
  r = fma(n, set(2.12194440e-4f), r);
  Vec p = set(1.9875691500e-4f);
  p = fma(p, r, set(1.3981999507e-3f));
  p = fma(p, r, set(8.3334519073e-3f));
  p = fma(p, r, set(4.1665795894e-2f));
  p = fma(p, r, set(1.6666665459e-1f));
  p = fma(p, r, set(5.0000001201e-1f));
  return scale_by_power(fma(p, r * r, r) + set(1.0f), n);
}

// v / (1 + e^-v), with e^-v = 2^t. The power's error grows to 6e-8 |t|, but where t is large it is 1 that counts, or
// the result is nearly 0.
inline Vec silu(Vec v) {
  const Vec t = min(set(126.0f), max(set(-126.0f), v * set(-1.44269504f)));
  const Vec n = round(t);
  const Vec r = t - n;  // in [-0.5, 0.5]: there the polynomial is within 3e-7 of 2^r
  Vec p = set(1.327647203e-3f);
  p = fma(p, r, set(9.675541480e-3f));
  p = fma(p, r, set(5.550713275e-2f));
  p = fma(p, r, set(2.402211972e-1f));
  p = fma(p, r, set(6.931469671e-1f));
  p = fma(p, r, set(1.0f));
  return v / (set(1.0f) + scale_by_power(p, n));
}

// v (1 + erf(v / sqrt 2)) / 2. With h = erfc(|v| / sqrt 2), which keeps its digits where it is small: v h / 2 for negative v,
// v - v h / 2 else. h is Abramowitz and Stegun 7.1.26 (absolute error 1.5e-7).
inline Vec gelu(Vec v) {
  const Vec z = min(set(12.0f), max(v, set(0.0f) - v) * set(0.70710678f));
  const Vec t = set(1.0f) / fma(z, set(0.3275911f), set(1.0f));
  Vec p = set(1.061405429f);
  p = fma(p, t, set(-1.453152027f));
  p = fma(p, t, set(1.421413741f));
  p = fma(p, t, set(-0.284496736f));
  p = fma(p, t, set(0.254829592f));
  const Vec half = set(0.5f) * v * (p * t * exp(set(0.0f) - z * z));
  return where_less(v, set(0.0f), half, v - half);
}

// Calls body(i, count) for vectors of n elements: full ones with all lanes, the last with what is left.
template <typename Body>
inline void for_vectors(int64_t n, Body body) {
  for (int64_t i = 0; i < n; i += kLanes) body(i, first(n - i));
}
