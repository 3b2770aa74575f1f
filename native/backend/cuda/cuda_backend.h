// The cuda backend: own kernels on one stream of one device, compute capability 8.0 and up.
//
//   float32   weights, activations and cache in float32, plain fused multiply-adds (no TF32): judged beside the reference
//   bfloat16  matrix products take bf16 inputs and weights on tensor cores and accumulate in float32; norms, residual stream,
//             softmax and the sampler stay in float32; keys and values are cached in bf16
//
// Ops only enqueue; download is the one call that waits. Stretches of ops may be kept as graphs (graphs.h). Each .cu file defines the members of its stem.
#pragma once

#include <cuda_runtime_api.h>

#include "backend/backend.h"
#include "backend/cuda/graphs.h"
#include "backend/cuda/make_cuda_backend.h"
#include "backend/cuda/memory.h"

namespace ardiff {

namespace cuda {
class CublasLt;
struct CudaLinear;
struct FewRowsTask;
struct LinearTask;
}  // namespace cuda

class CudaBackend final : public Backend {
 public:
  CudaBackend(int device, const BackendOptions& options, const CudaLimits& limits);
  ~CudaBackend() override;

  const BackendInfo& info() const override { return info_; }
  DType activation_dtype() const override { return info_.dtype; }
  DType kv_dtype() const override { return info_.dtype; }

  Storage allocate(size_t bytes) override;
  void upload(const TensorView& dst, const void* src) override;
  void download(const TensorView& src, void* dst) override;
  void download_all(std::span<const Download> parts) override;

  void run_stretch(const StretchKey& key, const std::function<void()>& ops) override;
  bool keeps_stretches() const override { return graphs_.enabled(); }
  StretchCounts stretch_counts() const override { return graphs_.counts(); }

  std::optional<DeviceMemory> device_memory() const override;
  size_t linear_bytes(int64_t in, int64_t out) const override;
  size_t picture_linear_bytes(int64_t in, int64_t out) const override;
  size_t conv2d_bytes(int64_t in, int64_t out, int64_t kernel) const override;
  size_t op_memory_bytes(size_t largest_input) const override;

  std::unique_ptr<Linear> prepare_linear(std::span<const LinearPart> parts) override;
  std::unique_ptr<Linear> prepare_picture_linear(std::span<const LinearPart> parts) override;
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

  void norm_linear_rope_store(const TensorView& x, const RowNorm& norm, const TensorView& normed, const Linear& w, const TensorView& qkv,
                              const TensorView& cos, const TensorView& sin, const TensorView& slots, const TensorView& q,
                              const KvLayer& kv) override;
  void norm_linear_silu_mul(const TensorView& x, const RowNorm& norm, const TensorView& normed, const Linear& w, const TensorView& gate_up,
                            const TensorView& y) override;
  void linear_gather(const TensorView& x, const Linear& w, const TensorView& projected, const TensorView& index, const TensorView& y) override;

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
  bool bf16() const { return info_.dtype == DType::kBF16; }
  // lt: null, or what the layer's products are made by.
  std::unique_ptr<Linear> place_linear(std::span<const LinearPart> parts, cuda::CublasLt* lt);
  // Rows of x as bf16 that a product can read in 16-byte pieces up to `depth`: x itself, or a copy in activations_.
  void set_bf16_input(cuda::LinearTask& task, const TensorView& x, int64_t depth);
  // The rows of a product: those that `norm` leaves in `normed`.
  void set_normed_rows(cuda::FewRowsTask& task, const TensorView& x, const RowNorm& norm, const TensorView& normed);
  // Whether a product has linear_wide.cu's kernel, and whether what follows it in pairs is in its kernel.
  bool takes_wide(int64_t rows, const cuda::CudaLinear& layer) const;
  bool takes_pairs(const TensorView& x, const Linear& w) const;
  void launch_pairs(const cuda::FewRowsTask& task);
  // x as the products of convolutions read it: own dtype, pixels at whole 16 bytes. May be a copy in activations_.
  TensorView product_picture(const TensorView& x);
  void convolve(const TensorView& x, const Conv2d& w, const TensorView& y, bool doubled, bool adds);

  int sm_count_ = 0;
  size_t block_shared_bytes_ = 0;  // the most that a block may have
  cuda::WideDevice wide_;         // kernels of warpgroup products
  bool tiled_attention_;  // tiled contexts by attention_tiled.cu
  CudaLimits limits_;
  std::unique_ptr<cuda::CublasLt> cublas_lt_;  // where it was asked for
  BackendInfo info_;
  cuda::Stream stream_;
  cuda::StagingRing staging_;
  cuda::PinnedMemory arrivals_;  // what download_all brings, on its way
  cuda::Workspace activations_;  // inputs of products converted or padded
  cuda::Workspace workspace_;    // everything else that one op keeps between its kernels
  cuda::GraphCache graphs_;
};

}  // namespace ardiff
