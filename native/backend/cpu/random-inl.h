// Box-Muller on pairs of random words w0, w1, with u = (w + 0.5) 2^-32:
//   radius = sqrt(-2 ln u0), normals = radius cos(2 pi u1), radius sin(2 pi u1)
// The reductions are done on the integers, where they are exact; a float u would lose u0 next to 1 and the
// low bits of the angle.

// ln((1 + s) / (1 - s)) for |s| <= 1/3.
inline Vec twice_atanh(Vec s) {
  const Vec q = s * s;
  Vec p = set(2.0f / 13.0f);
  p = fma(p, q, set(2.0f / 11.0f));
  p = fma(p, q, set(2.0f / 9.0f));
  p = fma(p, q, set(2.0f / 7.0f));
  p = fma(p, q, set(2.0f / 5.0f));
  p = fma(p, q, set(2.0f / 3.0f));
  return fma(p * q, s, s + s);
}

// What the vector code needs of a pair, as floats: ln u0 = exponent ln 2 + twice_atanh(numerator / denominator);
// angle / (pi / 4) = octant-reduced turn, with cosine and sine swapped and signed.
struct PairParts {
  float exponent[kLanes], numerator[kLanes], denominator[kLanes];
  float angle[kLanes], swap[kLanes], cos_sign[kLanes], sin_sign[kLanes];
};

inline void split_pair(uint32_t w0, uint32_t w1, int i, PairParts& parts) {
  if (w0 >= 0x80000000u) {
    // u0 = 1 - v, v in (0, 1/2]: ln(1 - v) = -2 atanh(v / (2 - v))
    const float v = (static_cast<float>(~w0) + 0.5f) * 0x1p-32f;
    parts.exponent[i] = 0.0f;
    parts.numerator[i] = -v;
    parts.denominator[i] = 2.0f - v;
  } else {
    // u0 = m 2^e with m in [3/4, 3/2): ln m = 2 atanh((m - 1) / (m + 1))
    const float value = static_cast<float>(w0) + 0.5f;
    uint32_t bits;
    __builtin_memcpy(&bits, &value, sizeof bits);
    int exponent = static_cast<int>(bits >> 23) - 127;
    bits = (bits & 0x007fffffu) | 0x3f800000u;
    if (bits >= 0x3fc00000u) {
      bits -= 0x00800000u;
      ++exponent;
    }
    float m;
    __builtin_memcpy(&m, &bits, sizeof m);
    parts.exponent[i] = static_cast<float>(exponent - 32);
    parts.numerator[i] = m - 1.0f;
    parts.denominator[i] = m + 1.0f;
  }
  // A turn is 2^32; quadrants are centred on the axes so that what remains is within an eighth of a turn.
  const uint32_t quadrant = (w1 + 0x20000000u) >> 30;
  const int32_t rest = static_cast<int32_t>(w1 - (quadrant << 30));
  parts.angle[i] = (static_cast<float>(rest) + 0.5f) * (6.2831853072f * 0x1p-32f);
  parts.swap[i] = quadrant & 1u ? 1.0f : 0.0f;
  parts.cos_sign[i] = quadrant == 1 || quadrant == 2 ? -1.0f : 1.0f;
  parts.sin_sign[i] = quadrant >= 2 ? -1.0f : 1.0f;
}

// Normals of one vector of pairs.
inline void normals_of(const PairParts& parts, float* cosines, float* sines) {
  const Vec log = fma(load(parts.exponent), set(0.693147181f), twice_atanh(load(parts.numerator) / load(parts.denominator)));
  const Vec radius = sqrt(set(-2.0f) * log);
  const Vec a = load(parts.angle), q = a * a;
  Vec s = fma(set(2.7557319e-6f), q, set(-1.9841270e-4f));
  s = fma(s, q, set(8.3333333e-3f));
  s = fma(s, q, set(-1.6666667e-1f));
  s = fma(s * q, a, a);
  Vec c = fma(set(-2.7557319e-7f), q, set(2.4801587e-5f));
  c = fma(c, q, set(-1.3888889e-3f));
  c = fma(c, q, set(4.1666667e-2f));
  c = fma(c, q, set(-0.5f));
  c = fma(c, q, set(1.0f));
  const Vec half = set(0.5f), swap = load(parts.swap);
  store(cosines, radius * load(parts.cos_sign) * where_less(swap, half, c, s));
  store(sines, radius * load(parts.sin_sign) * where_less(swap, half, s, c));
}

void box_muller(const uint32_t* words, int64_t pairs, float* normals) {
  PairParts parts;
  float cosines[kLanes], sines[kLanes];
  for (int64_t begin = 0; begin < pairs; begin += kLanes) {
    const int64_t count = pairs - begin < kLanes ? pairs - begin : kLanes;
    for (int i = 0; i < kLanes; ++i) {
      const int64_t pair = begin + (i < count ? i : 0);
      split_pair(words[2 * pair], words[2 * pair + 1], i, parts);
    }
    normals_of(parts, cosines, sines);
    for (int i = 0; i < count; ++i) {
      normals[2 * (begin + i)] = cosines[i];
      normals[2 * (begin + i) + 1] = sines[i];
    }
  }
}
