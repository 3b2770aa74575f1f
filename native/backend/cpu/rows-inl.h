// Kernels over one row: norms, activations, conversions, the sampler step. Sums run in one vector of lanes,
// element i into lane i % kLanes, so their order is fixed by the row's length.

template <typename F>
inline float sum_over(int64_t n, F element) {
  Vec sum = set(0.0f);
  for_vectors(n, [&](int64_t i, Count count) { sum = sum + element(i, count); });
  return reduce_add(sum);
}

// Writes element(i, count) for n elements to y in its dtype.
template <typename F>
inline void write(int64_t n, void* y, bool y_bf16, F element) {
  if (y_bf16) {
    for_vectors(n, [&](int64_t i, Count count) { store(static_cast<uint16_t*>(y) + i, element(i, count), count); });
  } else {
    for_vectors(n, [&](int64_t i, Count count) { store(static_cast<float*>(y) + i, element(i, count), count); });
  }
}

void rms_norm(const float* x, const float* w, float eps, int64_t n, void* y, bool y_bf16) {
  const float squares = sum_over(n, [&](int64_t i, Count count) { const Vec v = load(x + i, count); return v * v; });
  const Vec scale = set(1.0f / __builtin_sqrtf(squares / static_cast<float>(n) + eps));
  write(n, y, y_bf16, [&](int64_t i, Count count) { return load(x + i, count) * scale * load(w + i, count); });
}

void layer_norm(const float* x, const float* w, const float* b, const float* shift, const float* scale, float eps, int64_t n, void* y,
                bool y_bf16) {
  const float width = static_cast<float>(n);
  const Vec mean = set(sum_over(n, [&](int64_t i, Count count) { return load(x + i, count); }) / width);
  const float squares = sum_over(n, [&](int64_t i, Count count) {
    const Vec d = select(count, load(x + i, count) - mean, set(0.0f));
    return d * d;
  });
  const Vec inverse_deviation = set(1.0f / __builtin_sqrtf(squares / width + eps));
  write(n, y, y_bf16, [&](int64_t i, Count count) {
    Vec v = (load(x + i, count) - mean) * inverse_deviation;
    if (w) v = v * load(w + i, count) + load(b + i, count);
    if (scale) v = v * (set(1.0f) + load(scale + i, count)) + load(shift + i, count);
    return v;
  });
}

void silu_mul(const float* gate, const float* up, int64_t n, void* y, bool y_bf16) {
  write(n, y, y_bf16, [&](int64_t i, Count count) { return silu(load(gate + i, count)) * load(up + i, count); });
}

void silu_add(const float* a, const float* b, int64_t n, void* y, bool y_bf16) {
  write(n, y, y_bf16, [&](int64_t i, Count count) { return silu(load(a + i, count) + load(b + i, count)); });
}

void add(const float* a, const float* b, int64_t n, float* y) {
  write(n, y, false, [&](int64_t i, Count count) { return load(a + i, count) + load(b + i, count); });
}

void store_row(const float* x, int64_t n, void* y, bool y_bf16) {
  write(n, y, y_bf16, [&](int64_t i, Count count) { return load(x + i, count); });
}

void load_bf16(const uint16_t* x, int64_t n, float* y) {
  write(n, y, false, [&](int64_t i, Count count) { return load(x + i, count); });
}

float softmax_row(float* x, float factor, int64_t n) {
  Vec largest = set(x[0]);
  for_vectors(n, [&](int64_t i, Count count) { largest = max(largest, select(count, load(x + i, count), largest)); });
  const Vec most = set(reduce_max(largest));
  return sum_over(n, [&](int64_t i, Count count) {
    const Vec e = select(count, exp((load(x + i, count) - most) * set(factor)), set(0.0f));
    store(x + i, e, count);
    return e;
  });
}

void scale_row(const float* x, float factor, int64_t n, void* y, bool y_bf16) {
  write(n, y, y_bf16, [&](int64_t i, Count count) { return load(x + i, count) * set(factor); });
}

template <typename Y>
inline void rotate_halves(const float* x, const float* cos, const float* sin, int64_t half, Y* y) {
  for_vectors(half, [&](int64_t i, Count count) {
    const Vec x1 = load(x + i, count), x2 = load(x + half + i, count), c = load(cos + i, count), s = load(sin + i, count);
    store(y + i, x1 * c - x2 * s, count);
    store(y + half + i, x2 * c + x1 * s, count);
  });
}

void rotate(const float* x, const float* cos, const float* sin, int64_t half, void* y, bool y_bf16) {
  if (y_bf16) {
    rotate_halves(x, cos, sin, half, static_cast<uint16_t*>(y));
  } else {
    rotate_halves(x, cos, sin, half, static_cast<float*>(y));
  }
}

void flow_step(const FlowStepTask& t) {
  for_vectors(t.columns, [&](int64_t i, Count count) {
    const Vec conditional = load(t.conditional + i, count);
    Vec guided = conditional;
    if (t.image_only) {
      const Vec image_only = load(t.image_only + i, count), unconditional = load(t.unconditional + i, count);
      guided = unconditional + set(t.cfg_img) * (image_only - unconditional) + set(t.cfg) * (conditional - image_only);
    } else if (t.unconditional) {
      const Vec unconditional = load(t.unconditional + i, count);
      guided = unconditional + set(t.cfg) * (conditional - unconditional);
    }
    Vec next = set(t.a) * load(t.x + i, count) + set(t.b) * guided;
    if (t.noise) next = next + set(t.gamma) * load(t.noise + i, count);
    store(t.x + i, next, count);
  });
}
