// A backend that passes every call on to another one and counts the time each kind of op takes: the real model code
// runs on it, so shares are those of the engine. Costs tens of nanoseconds a call. With `wait`, each op is waited for by itself, and what
// waiting for nothing takes is not counted: on a device, where ops only enqueue.
#pragma once

#include <algorithm>
#include <array>
#include <functional>
#include <utility>

#include "backend/backend.h"
#include "timing.h"

namespace ardiff::bench {

class TimedBackend final : public Backend {
 public:
  enum Kind { kLinear, kAttention, kNorm, kRope, kActivation, kRows, kRandom, kConv, kGroupNorm, kDenseAttention, kPixels, kKinds };
  static constexpr std::array<const char*, kKinds> kNames = {"linear", "attention", "norm", "rope", "activation", "rows",
                                                             "random", "conv", "group norm", "dense attention", "pixels"};

  explicit TimedBackend(Backend& inner, std::function<void()> wait = {}) : inner_(inner), wait_(std::move(wait)) {
    if (!wait_) return;
    for (int i = 0; i < 20; ++i) {
      wait_();
      const double begin = now();
      wait_();
      of_wait_ = std::min(of_wait_, now() - begin);
    }
  }

  std::array<double, kKinds> seconds{};  // since the caller last cleared it

  const BackendInfo& info() const override { return inner_.info(); }
  DType activation_dtype() const override { return inner_.activation_dtype(); }
  DType kv_dtype() const override { return inner_.kv_dtype(); }
  Storage allocate(size_t bytes) override { return inner_.allocate(bytes); }
  void upload(const TensorView& dst, const void* src) override { inner_.upload(dst, src); }
  void download(const TensorView& src, void* dst) override { inner_.download(src, dst); }
  void rest() override { inner_.rest(); }
  std::unique_ptr<Linear> prepare_linear(std::span<const LinearPart> parts) override { return inner_.prepare_linear(parts); }
  std::unique_ptr<Linear> prepare_picture_linear(std::span<const LinearPart> parts) override { return inner_.prepare_picture_linear(parts); }
  std::unique_ptr<Conv2d> prepare_conv2d(const HostTensor& weight, const HostTensor& bias, ConvPadding padding) override {
    return inner_.prepare_conv2d(weight, bias, padding);
  }

  using View = const TensorView&;
  void linear(View x, const Linear& w, View y, const Epilogue& e) override { timed(kLinear, [&] { inner_.linear(x, w, y, e); }); }
  void embed(View table, View ids, View y) override { timed(kRows, [&] { inner_.embed(table, ids, y); }); }
  void gather_rows(View x, View index, View y) override { timed(kRows, [&] { inner_.gather_rows(x, index, y); }); }
  void scatter_rows(View x, View index, View y) override { timed(kRows, [&] { inner_.scatter_rows(x, index, y); }); }
  void convert(View x, View y) override { timed(kRows, [&] { inner_.convert(x, y); }); }
  void add(View a, View b, View y) override { timed(kRows, [&] { inner_.add(a, b, y); }); }
  void rms_norm(View x, View w, float eps, View y) override { timed(kNorm, [&] { inner_.rms_norm(x, w, eps, y); }); }
  void layer_norm(View x, View w, View b, float eps, View y) override { timed(kNorm, [&] { inner_.layer_norm(x, w, b, eps, y); }); }
  void ada_layer_norm(View x, View w, View b, float eps, View shift, View scale, View modulation_rows, View y) override {
    timed(kNorm, [&] { inner_.ada_layer_norm(x, w, b, eps, shift, scale, modulation_rows, y); });
  }
  void silu_mul(View gate_up, View y) override { timed(kActivation, [&] { inner_.silu_mul(gate_up, y); }); }
  void rope_angles(View positions, float theta, View cos, View sin) override { timed(kRope, [&] { inner_.rope_angles(positions, theta, cos, sin); }); }
  void rope_store(View qkv, View cos, View sin, View slots, View q, const KvLayer& kv) override {
    timed(kRope, [&] { inner_.rope_store(qkv, cos, sin, slots, q, kv); });
  }
  void store_kv(View key_values, View slots, const KvLayer& kv) override { timed(kRope, [&] { inner_.store_kv(key_values, slots, kv); }); }
  void paged_attention(View q, const KvLayer& kv, const PagedContext& context, View out) override {
    timed(kAttention, [&] { inner_.paged_attention(q, kv, context, out); });
  }
  void attention_entropy(View q, const KvLayer& kv, const PagedContext& context, View first_keys, View out) override {
    timed(kAttention, [&] { inner_.attention_entropy(q, kv, context, first_keys, out); });
  }
  void copy_blocks(const KvLayer& kv, std::span<const int32_t> pairs) override { timed(kRows, [&] { inner_.copy_blocks(kv, pairs); }); }
  void timestep_features(View t, View y) override { timed(kRandom, [&] { inner_.timestep_features(t, y); }); }
  void silu_add(View a, View a_index, View b, View b_index, View y) override {
    timed(kActivation, [&] { inner_.silu_add(a, a_index, b, b_index, y); });
  }
  void flow_step(View x, View v, View row_begin, View state, View coefficients, View noise, View noise_index) override {
    timed(kRandom, [&] { inner_.flow_step(x, v, row_begin, state, coefficients, noise, noise_index); });
  }
  void philox_normal(View keys, View y) override { timed(kRandom, [&] { inner_.philox_normal(keys, y); }); }
  void verify_drafts(const DraftedPaths& paths, const DraftedSequences& sequences, const Verdicts& verdicts) override {
    timed(kRandom, [&] { inner_.verify_drafts(paths, sequences, verdicts); });
  }
  void conv2d(View x, const Conv2d& w, View y, const Epilogue& e) override { timed(kConv, [&] { inner_.conv2d(x, w, y, e); }); }
  void group_norm(View x, View w, View b, int64_t groups, float eps, bool silu, View y) override {
    timed(kGroupNorm, [&] { inner_.group_norm(x, w, b, groups, eps, silu, y); });
  }
  void upsample_conv2d(View x, const Conv2d& w, View y) override { timed(kConv, [&] { inner_.upsample_conv2d(x, w, y); }); }
  void dense_attention(View q, View k, View v, float scale, View out) override { timed(kDenseAttention, [&] { inner_.dense_attention(q, k, v, scale, out); }); }
  void unpatchify(View tokens, int64_t grid_height, float scaling, float shift, View z) override {
    timed(kPixels, [&] { inner_.unpatchify(tokens, grid_height, scaling, shift, z); });
  }
  void patchify(View z, int64_t grid_height, float scaling, float shift, View tokens) override {
    timed(kPixels, [&] { inner_.patchify(z, grid_height, scaling, shift, tokens); });
  }
  void to_rgb8(View y, View rgb) override { timed(kPixels, [&] { inner_.to_rgb8(y, rgb); }); }

 private:
  template <typename Body>
  void timed(Kind kind, Body&& body) {
    if (wait_) wait_();
    const double begin = now();
    body();
    if (wait_) wait_();
    seconds[kind] += now() - begin - (wait_ ? of_wait_ : 0.0);
  }

  Backend& inner_;
  std::function<void()> wait_;
  double of_wait_ = 1.0;  // seconds
};

}  // namespace ardiff::bench
