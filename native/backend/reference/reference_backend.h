// The reference backend: plain float32 loops, one thread, nothing clever. It defines what each op of ops.h
// means; its loops are ordered so that a compiler may use vectors without reordering any sum.
#pragma once

#include "backend/backend.h"

namespace ardiff {

class ReferenceBackend : public Backend {
 public:
  const BackendInfo& info() const override { return info_; }
  DType activation_dtype() const override { return DType::kF32; }
  DType kv_dtype() const override { return DType::kF32; }

  Storage allocate(size_t bytes) override;
  void upload(const TensorView& dst, const void* src) override;
  void download(const TensorView& src, void* dst) override;

  std::unique_ptr<Linear> prepare_linear(std::span<const LinearPart> parts) override;
  std::unique_ptr<Conv2d> prepare_conv2d(const HostTensor& weight, const HostTensor& bias, ConvPadding padding) override;

  void linear(const TensorView& x, const Linear& w, const TensorView& y, const Epilogue& epilogue) override;
  void embed(const TensorView& table, const TensorView& ids, const TensorView& y) override;
  void gather_rows(const TensorView& x, const TensorView& index, const TensorView& y) override;
  void scatter_rows(const TensorView& x, const TensorView& index, const TensorView& y) override;
  void convert(const TensorView& x, const TensorView& y) override;
  void add(const TensorView& a, const TensorView& b, const TensorView& y) override;

  void rms_norm(const TensorView& x, const TensorView& w, float eps, const TensorView& y) override;
  void layer_norm(const TensorView& x, const TensorView& w, const TensorView& b, float eps, const TensorView& y) override;
  void ada_layer_norm(const TensorView& x, const TensorView& w, const TensorView& b, float eps, const TensorView& shift,
                      const TensorView& scale, const TensorView& modulation_rows, const TensorView& y) override;

  void silu_mul(const TensorView& gate_up, const TensorView& y) override;
  void rope_angles(const TensorView& positions, float theta, const TensorView& cos, const TensorView& sin) override;
  void rope_store(const TensorView& qkv, const TensorView& cos, const TensorView& sin, const TensorView& slots, const TensorView& q,
                  const KvLayer& kv) override;
  void store_kv(const TensorView& key_values, const TensorView& slots, const KvLayer& kv) override;
  void paged_attention(const TensorView& q, const KvLayer& kv, const PagedContext& context, const TensorView& out) override;
  void attention_entropy(const TensorView& q, const KvLayer& kv, const PagedContext& context, const TensorView& first_keys,
                         const TensorView& out) override;
  void copy_blocks(const KvLayer& kv, std::span<const int32_t> pairs) override;

  void timestep_features(const TensorView& t, const TensorView& y) override;
  void silu_add(const TensorView& a, const TensorView& a_index, const TensorView& b, const TensorView& b_index,
                const TensorView& y) override;
  void flow_step(const TensorView& x, const TensorView& v, const TensorView& row_begin, const TensorView& state,
                 const TensorView& coefficients, const TensorView& noise, const TensorView& noise_index) override;
  void philox_normal(const TensorView& keys, const TensorView& y) override;

  void verify_drafts(const DraftedPaths& paths, const DraftedSequences& sequences, const Verdicts& verdicts) override;

  void conv2d(const TensorView& x, const Conv2d& w, const TensorView& y, const Epilogue& epilogue) override;
  void group_norm(const TensorView& x, const TensorView& w, const TensorView& b, int64_t groups, float eps, bool silu,
                  const TensorView& y) override;
  void upsample_conv2d(const TensorView& x, const Conv2d& w, const TensorView& y) override;
  void dense_attention(const TensorView& q, const TensorView& k, const TensorView& v, float scale, const TensorView& out) override;
  void unpatchify(const TensorView& tokens, int64_t grid_height, float scaling, float shift, const TensorView& z) override;
  void patchify(const TensorView& z, int64_t grid_height, float scaling, float shift, const TensorView& tokens) override;
  void to_rgb8(const TensorView& y, const TensorView& rgb) override;

 private:
  BackendInfo info_{"reference", DType::kF32, 1, "generic", ""};
};

}  // namespace ardiff
