// The cpu backend: SIMD kernels chosen at run time (kernels.h) on its own threads (thread_pool.h); oneDNN for the
// convolutions that are not made by Winograd's algorithm and, where the processor has AMX, for larger matrix products.
//
//   float32   weights, activations and cache in float32
//   bfloat16  matrix products, those of convolutions too, take bf16 inputs and weights and accumulate in float32; norms,
//             residual stream, softmax and the sampler stay in float32; keys and values are cached in bf16
#pragma once

#include <map>
#include <utility>
#include <vector>

#include "backend/backend.h"
#include "backend/cpu/isa.h"
#include "backend/cpu/reusable_memory.h"
#include "backend/cpu/thread_pool.h"

namespace ardiff {

namespace cpu {

struct DnnlRuntime;  // engine and stream (dnnl_runtime.h)
class DnnlProduct;

// What BackendOptions leaves to the machine; tests and benches choose here.
struct Choice {
  const Kernels* kernels = nullptr;  // null: the best available
  enum class LargeProducts { kByMachine, kOwn, kDnnl } large_products = LargeProducts::kByMachine;
};

}  // namespace cpu

class CpuBackend final : public Backend {
 public:
  explicit CpuBackend(const BackendOptions& options, const cpu::Choice& choice = {});
  ~CpuBackend() override;

  const BackendInfo& info() const override { return info_; }
  DType activation_dtype() const override { return info_.dtype; }
  DType kv_dtype() const override { return info_.dtype; }

  Storage allocate(size_t bytes) override;
  void upload(const TensorView& dst, const void* src) override;
  void download(const TensorView& src, void* dst) override;
  void rest() override { pool_.rest(); }

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
  bool bf16() const { return info_.dtype == DType::kBF16; }
  int threads() const { return pool_.threads(); }
  // Runs the kernel for this backend's dtype on as many threads as the work is worth. x of task in that dtype.
  void run_gemm(const cpu::GemmTask& task);
  // The same through oneDNN.
  void run_product(cpu::DnnlProduct& product, const TensorView& x, const cpu::GemmTask& task);
  // x with rows as the products read them: own dtype, depth readable. May be a copy in `activations_`.
  std::pair<const void*, int64_t> product_input(const TensorView& x, int64_t depth);
  // paged_attention of a tiled context with rows.
  void tiled_attention(const TensorView& q, const KvLayer& kv, const PagedContext& context, const TensorView& out);
  // y[i][j] = x[i/2][j/2]. x f32, y in this backend's dtype.
  void upsample(const TensorView& x, const TensorView& y);
  // Row m of x in this backend's dtype.
  void load_product_row(const TensorView& x, int64_t m, std::byte* to) const;

  const cpu::Kernels* kernels_;
  const BackendInfo info_;
  const bool dnnl_products_;
  cpu::ThreadPool pool_;
  std::unique_ptr<cpu::DnnlRuntime> dnnl_;

  cpu::ReusableMemory activations_;  // product inputs converted to the product's dtype
  cpu::ReusableMemory partial_;      // GemmTask::partial of every thread
  cpu::ReusableMemory results_;      // products made by oneDNN on their way to the epilogue
  cpu::ReusableMemory scores_;       // attention scores of every thread
  cpu::ReusableMemory packed_;       // keys and values as panels: of dense attention, or of every thread's tiled attention
  cpu::ReusableMemory sums_;         // group norm; working memory of convolutions
  cpu::ReusableMemory doubled_;      // upsampled pictures
  std::vector<int64_t> attention_groups_;  // first rows of what paged_attention takes together
  std::map<std::pair<float, int64_t>, std::vector<float>> rope_frequencies_;  // by theta and pairs
  std::map<int64_t, std::vector<float>> timestep_frequencies_;                // by half width
};

std::unique_ptr<Backend> make_cpu_backend(const BackendOptions& options, const cpu::Choice& choice = {});

}  // namespace ardiff
