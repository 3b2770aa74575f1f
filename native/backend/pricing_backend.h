// A backend that computes nothing and counts the memory that another one would take: loading a model and running a step on it is
// how both are priced, by the code that will do them.
#pragma once

#include "backend/backend.h"

namespace ardiff {

class PricingBackend final : public Backend {
 public:
  // Sizes are those of `real`, which must outlive this and is not asked to allocate.
  explicit PricingBackend(const Backend& real) : real_(real) {}

  // Bytes that are allocated now, and the most there ever were.
  int64_t live() const { return count_->live; }
  int64_t most() const { return count_->most; }
  // The largest copy of a product's input in the dtype that products take: what a backend may keep beside the step's own tensors.
  int64_t largest_input() const { return largest_input_; }

  const BackendInfo& info() const override { return real_.info(); }
  DType activation_dtype() const override { return real_.activation_dtype(); }
  DType kv_dtype() const override { return real_.kv_dtype(); }
  size_t linear_bytes(int64_t in, int64_t out) const override { return real_.linear_bytes(in, out); }
  size_t picture_linear_bytes(int64_t in, int64_t out) const override { return real_.picture_linear_bytes(in, out); }
  size_t conv2d_bytes(int64_t in, int64_t out, int64_t kernel) const override { return real_.conv2d_bytes(in, out, kernel); }

  // Addresses that are nobody else's and that must not be touched.
  Storage allocate(size_t bytes) override;
  void upload(const TensorView&, const void*) override {}
  void download(const TensorView& src, void* dst) override;

  std::unique_ptr<Linear> prepare_linear(std::span<const LinearPart> parts) override;
  std::unique_ptr<Linear> prepare_picture_linear(std::span<const LinearPart> parts) override;
  std::unique_ptr<Conv2d> prepare_conv2d(const HostTensor& weight, const HostTensor& bias, ConvPadding padding) override;

  void linear(const TensorView& x, const Linear&, const TensorView&, const Epilogue&) override { see_input(x); }
  void embed(const TensorView&, const TensorView&, const TensorView&) override {}
  void gather_rows(const TensorView&, const TensorView&, const TensorView&) override {}
  void scatter_rows(const TensorView&, const TensorView&, const TensorView&) override {}
  void convert(const TensorView&, const TensorView&) override {}
  void add(const TensorView&, const TensorView&, const TensorView&) override {}
  void rms_norm(const TensorView&, const TensorView&, float, const TensorView&) override {}
  void layer_norm(const TensorView&, const TensorView&, const TensorView&, float, const TensorView&) override {}
  void ada_layer_norm(const TensorView&, const TensorView&, const TensorView&, float, const TensorView&, const TensorView&,
                      const TensorView&, const TensorView&) override {}
  void silu_mul(const TensorView&, const TensorView&) override {}
  void rope_angles(const TensorView&, float, const TensorView&, const TensorView&) override {}
  void rope_store(const TensorView&, const TensorView&, const TensorView&, const TensorView&, const TensorView&, const KvLayer&) override {}
  void store_kv(const TensorView&, const TensorView&, const KvLayer&) override {}
  void paged_attention(const TensorView&, const KvLayer&, const PagedContext&, const TensorView&) override {}
  void attention_entropy(const TensorView&, const KvLayer&, const PagedContext&, const TensorView&, const TensorView&) override {}
  void copy_blocks(const KvLayer&, std::span<const int32_t>) override {}
  void timestep_features(const TensorView&, const TensorView&) override {}
  void silu_add(const TensorView&, const TensorView&, const TensorView&, const TensorView&, const TensorView&) override {}
  void flow_step(const TensorView&, const TensorView&, const TensorView&, const TensorView&, const TensorView&, const TensorView&,
                 const TensorView&) override {}
  void philox_normal(const TensorView&, const TensorView&) override {}

  void verify_drafts(const DraftedPaths&, const DraftedSequences&, const Verdicts&) override {}
  void conv2d(const TensorView& x, const Conv2d&, const TensorView&, const Epilogue&) override { see_input(x); }
  void group_norm(const TensorView&, const TensorView&, const TensorView&, int64_t, float, bool, const TensorView&) override {}
  void upsample_conv2d(const TensorView& x, const Conv2d&, const TensorView&) override { see_input(x); }
  void dense_attention(const TensorView& q, const TensorView&, const TensorView&, float, const TensorView&) override;
  void unpatchify(const TensorView&, int64_t, float, float, const TensorView&) override {}
  void patchify(const TensorView&, int64_t, float, float, const TensorView&) override {}
  void to_rgb8(const TensorView&, const TensorView&) override {}

 private:
  struct Count {
    int64_t live = 0, most = 0;
  };
  void see_input(const TensorView& x);

  const Backend& real_;
  std::shared_ptr<Count> count_ = std::make_shared<Count>();  // storage may outlive the backend
  int64_t largest_input_ = 0;
};

}  // namespace ardiff
