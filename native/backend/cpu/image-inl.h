// Kernels of the autoencoder, over pixels whose channels are contiguous.

void channel_sums(const float* x, int64_t pixels, int64_t channels, float* sums) {
  for_vectors(channels, [&](int64_t c, Count count) {
    Vec sum = set(0.0f);
    for (int64_t p = 0; p < pixels; ++p) sum = sum + load(x + p * channels + c, count);
    store(sums + c, sum, count);
  });
}

void channel_squares(const float* x, const float* mean, int64_t pixels, int64_t channels, float* sums) {
  for_vectors(channels, [&](int64_t c, Count count) {
    const Vec center = load(mean + c, count);
    Vec sum = set(0.0f);
    for (int64_t p = 0; p < pixels; ++p) {
      const Vec d = load(x + p * channels + c, count) - center;
      sum = fma(d, d, sum);
    }
    store(sums + c, sum, count);
  });
}

template <typename Y>
inline void scale_shift_to(const float* x, const float* mean, const float* scale, const float* shift, int64_t pixels, int64_t channels,
                           bool with_silu, Y* y) {
  for (int64_t p = 0; p < pixels; ++p) {
    const auto vector = [&](int64_t c, auto... count) {
      const int64_t at = p * channels + c;
      const Vec v = fma(load(x + at, count...) - load(mean + c, count...), load(scale + c, count...), load(shift + c, count...));
      store(y + at, with_silu ? silu(v) : v, count...);
    };
    int64_t c = 0;
    for (; c + kLanes <= channels; c += kLanes) vector(c);
    if (c < channels) vector(c, first(channels - c));
  }
}

void scale_shift(const float* x, const float* mean, const float* scale, const float* shift, int64_t pixels, int64_t channels, bool with_silu,
                 void* y, bool y_bf16) {
  if (y_bf16) {
    scale_shift_to(x, mean, scale, shift, pixels, channels, with_silu, static_cast<uint16_t*>(y));
  } else {
    scale_shift_to(x, mean, scale, shift, pixels, channels, with_silu, static_cast<float*>(y));
  }
}

void to_rgb8(const float* x, int64_t n, uint8_t* y) {
  float levels[kLanes];
  for_vectors(n, [&](int64_t i, Count count) {
    // The limits go second here, so that a NaN becomes 0.
    const Vec unit = min(max(load(x + i, count) * set(0.5f) + set(0.5f), set(0.0f)), set(1.0f));
    store(levels, round(unit * set(255.0f)));
    for (int64_t j = 0; j < kLanes && i + j < n; ++j) y[i + j] = static_cast<uint8_t>(levels[j]);
  });
}
