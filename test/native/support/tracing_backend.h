// A backend that keeps of every stretch what its ops were called with, and finds where a key came back with other ops: what a backend
// that replays would have done wrong. Passes every call on to another backend.
#pragma once

#include <gtest/gtest.h>

#include <bit>
#include <string>
#include <vector>

#include "backend/backend.h"

namespace ardiff::testing_support {

class TracingBackend final : public Backend {
 public:
  explicit TracingBackend(Backend& inner) : inner_(inner) {}

  int64_t seen() const { return static_cast<int64_t>(stretches_.size()); }  // keys
  int64_t repeated() const { return repeated_; }                            // stretches whose key had come before
  int64_t repeated_ops() const { return repeated_ops_; }

  void run_stretch(const StretchKey& key, const std::function<void()>& ops) override {
    if (inside_) return ops();
    inside_ = true;
    trace_.clear();
    allocated_ = 0;
    ops();
    inside_ = false;
    for (const Stretch& known : stretches_) {
      if (!(known.key == key)) continue;
      ++repeated_;
      repeated_ops_ += static_cast<int64_t>(trace_.size());
      EXPECT_EQ(allocated_, 0) << "a stretch allocates when it comes again";
      ASSERT_EQ(trace_.size(), known.trace.size()) << "other ops under the same key";
      for (size_t i = 0; i < trace_.size(); ++i) ASSERT_TRUE(trace_[i] == known.trace[i]) << "op " << i << ", " << trace_[i].name << ", is not what it was under the same key";
      return;
    }
    stretches_.push_back({key, std::move(trace_)});
  }
  bool keeps_stretches() const override { return true; }

  const BackendInfo& info() const override { return inner_.info(); }
  DType activation_dtype() const override { return inner_.activation_dtype(); }
  DType kv_dtype() const override { return inner_.kv_dtype(); }
  Storage allocate(size_t bytes) override {
    ++allocated_;
    return inner_.allocate(bytes);
  }
  void upload(const TensorView& dst, const void* src) override {
    EXPECT_FALSE(inside_) << "upload inside a stretch";
    inner_.upload(dst, src);
  }
  void download(const TensorView& src, void* dst) override {
    EXPECT_FALSE(inside_) << "download inside a stretch";
    inner_.download(src, dst);
  }
  void download_all(std::span<const Download> parts) override {
    EXPECT_FALSE(inside_) << "download inside a stretch";
    inner_.download_all(parts);
  }
  // Its verdicts are for the host.
  void verify_drafts(const DraftedPaths& paths, const DraftedSequences& sequences, const Verdicts& verdicts) override {
    EXPECT_FALSE(inside_) << "verification inside a stretch";
    inner_.verify_drafts(paths, sequences, verdicts);
  }
  std::unique_ptr<Linear> prepare_linear(std::span<const LinearPart> parts) override { return inner_.prepare_linear(parts); }
  std::unique_ptr<Linear> prepare_picture_linear(std::span<const LinearPart> parts) override { return inner_.prepare_picture_linear(parts); }
  std::unique_ptr<Conv2d> prepare_conv2d(const HostTensor& weight, const HostTensor& bias, ConvPadding padding) override {
    return inner_.prepare_conv2d(weight, bias, padding);
  }

  using View = const TensorView&;
  void linear(View x, const Linear& w, View y, const Epilogue& e) override { note("linear", x, w, y, e), inner_.linear(x, w, y, e); }
  void embed(View table, View ids, View y) override { note("embed", table, ids, y), inner_.embed(table, ids, y); }
  void gather_rows(View x, View index, View y) override { note("gather_rows", x, index, y), inner_.gather_rows(x, index, y); }
  void scatter_rows(View x, View index, View y) override { note("scatter_rows", x, index, y), inner_.scatter_rows(x, index, y); }
  void convert(View x, View y) override { note("convert", x, y), inner_.convert(x, y); }
  void add(View a, View b, View y) override { note("add", a, b, y), inner_.add(a, b, y); }
  void rms_norm(View x, View w, float eps, View y) override { note("rms_norm", x, w, eps, y), inner_.rms_norm(x, w, eps, y); }
  void layer_norm(View x, View w, View b, float eps, View y) override { note("layer_norm", x, w, b, eps, y), inner_.layer_norm(x, w, b, eps, y); }
  void ada_layer_norm(View x, View w, View b, float eps, View shift, View scale, View modulation_rows, View y) override {
    note("ada_layer_norm", x, w, b, eps, shift, scale, modulation_rows, y);
    inner_.ada_layer_norm(x, w, b, eps, shift, scale, modulation_rows, y);
  }
  void silu_mul(View gate_up, View y) override { note("silu_mul", gate_up, y), inner_.silu_mul(gate_up, y); }
  void rope_angles(View positions, float theta, View cos, View sin) override {
    note("rope_angles", positions, theta, cos, sin), inner_.rope_angles(positions, theta, cos, sin);
  }
  void rope_store(View qkv, View cos, View sin, View slots, View q, const KvLayer& kv) override {
    note("rope_store", qkv, cos, sin, slots, q, kv), inner_.rope_store(qkv, cos, sin, slots, q, kv);
  }
  void store_kv(View key_values, View slots, const KvLayer& kv) override { note("store_kv", key_values, slots, kv), inner_.store_kv(key_values, slots, kv); }
  void paged_attention(View q, const KvLayer& kv, const PagedContext& context, View out) override {
    note("paged_attention", q, kv, context, out), inner_.paged_attention(q, kv, context, out);
  }
  void attention_entropy(View q, const KvLayer& kv, const PagedContext& context, View first_keys, View out) override {
    note("attention_entropy", q, kv, context, first_keys, out), inner_.attention_entropy(q, kv, context, first_keys, out);
  }
  void copy_blocks(const KvLayer& kv, std::span<const int32_t> pairs) override {
    EXPECT_FALSE(inside_) << "copy_blocks takes host memory";
    inner_.copy_blocks(kv, pairs);
  }
  void timestep_features(View t, View y) override { note("timestep_features", t, y), inner_.timestep_features(t, y); }
  void silu_add(View a, View a_index, View b, View b_index, View y) override { note("silu_add", a, a_index, b, b_index, y), inner_.silu_add(a, a_index, b, b_index, y); }
  void flow_step(View x, View v, View row_begin, View state, View coefficients, View noise, View noise_index) override {
    note("flow_step", x, v, row_begin, state, coefficients, noise, noise_index), inner_.flow_step(x, v, row_begin, state, coefficients, noise, noise_index);
  }
  void philox_normal(View keys, View y) override { note("philox_normal", keys, y), inner_.philox_normal(keys, y); }
  void conv2d(View x, const Conv2d& w, View y, const Epilogue& e) override { note("conv2d", x, w, y, e), inner_.conv2d(x, w, y, e); }
  void group_norm(View x, View w, View b, int64_t groups, float eps, bool silu, View y) override {
    note("group_norm", x, w, b, groups, eps, silu, y), inner_.group_norm(x, w, b, groups, eps, silu, y);
  }
  void upsample_conv2d(View x, const Conv2d& w, View y) override { note("upsample_conv2d", x, w, y), inner_.upsample_conv2d(x, w, y); }
  void dense_attention(View q, View k, View v, float scale, View out) override {
    note("dense_attention", q, k, v, scale, out), inner_.dense_attention(q, k, v, scale, out);
  }
  void unpatchify(View tokens, int64_t grid_height, float scaling, float shift, View z) override {
    note("unpatchify", tokens, grid_height, scaling, shift, z), inner_.unpatchify(tokens, grid_height, scaling, shift, z);
  }
  void patchify(View z, int64_t grid_height, float scaling, float shift, View tokens) override {
    note("patchify", z, grid_height, scaling, shift, tokens), inner_.patchify(z, grid_height, scaling, shift, tokens);
  }
  void to_rgb8(View y, View rgb) override { note("to_rgb8", y, rgb), inner_.to_rgb8(y, rgb); }

 private:
  // An op as its arguments: addresses, shapes, numbers.
  struct Call {
    std::string name;
    std::vector<uint64_t> words;
    bool operator==(const Call&) const = default;
  };
  struct Stretch {
    StretchKey key;
    std::vector<Call> trace;
  };

  static void put(Call& to, int64_t number) { to.words.push_back(static_cast<uint64_t>(number)); }
  static void put(Call& to, bool flag) { to.words.push_back(flag ? 1 : 0); }
  static void put(Call& to, float number) { to.words.push_back(std::bit_cast<uint32_t>(number)); }
  static void put(Call& to, const TensorView& view) {
    to.words.push_back(reinterpret_cast<uintptr_t>(view.data));
    put(to, static_cast<int64_t>(view.dtype));
    put(to, int64_t{view.shape.rank()});
    for (int i = 0; i < view.shape.rank(); ++i) put(to, view.shape[i]);
    put(to, view.row_stride);
  }
  static void put(Call& to, const KvLayer& kv) { put(to, kv.keys), put(to, kv.values); }
  static void put(Call& to, const PagedContext& context) { put(to, context.block_tables), put(to, context.table_rows), put(to, context.context_lengths); }
  static void put(Call& to, const Linear& layer) { to.words.push_back(reinterpret_cast<uintptr_t>(&layer)); }
  static void put(Call& to, const Conv2d& layer) { to.words.push_back(reinterpret_cast<uintptr_t>(&layer)); }
  static void put(Call& to, const Epilogue& epilogue) {
    put(to, static_cast<int64_t>(epilogue.kind)), put(to, epilogue.gate), put(to, epilogue.gate_rows);
  }
  template <typename... Arguments>
  void note(const char* name, const Arguments&... arguments) {
    if (!inside_) return;
    Call& call = trace_.emplace_back();
    call.name = name;
    (put(call, arguments), ...);
  }

  Backend& inner_;
  bool inside_ = false;
  int64_t allocated_ = 0, repeated_ = 0, repeated_ops_ = 0;
  std::vector<Call> trace_;
  std::vector<Stretch> stretches_;
};

}  // namespace ardiff::testing_support
