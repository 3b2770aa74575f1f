// What a backend is: memory, prepared weights and the ops of ops.h. `reference` defines correct (plain
// float32 loops), `cpu` and `cuda` are held to it by test/native/conformance.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "backend/ops.h"
#include "backend/stretch.h"
#include "tensor/tensor_view.h"

namespace ardiff {

// Identity for logs, metrics and `EngineInfo`.
struct BackendInfo {
  std::string name;       // "reference", "cpu", "cuda:0"
  DType dtype;            // compute dtype of matrix products: kF32 or kBF16
  int threads;
  std::string isa;        // "generic", "avx512_bf16", "amx_bf16", ...
  std::string libraries;  // "oneDNN 2.6.3"
};

struct DeviceMemory {
  int64_t free = 0;  // can be allocated now
  int64_t total = 0;
};

// A view to bring to host memory of its size.
struct Download {
  TensorView from;
  void* to;
};

// Not thread safe: one engine thread owns a backend and everything made by it. Asynchronous backends order
// all calls; upload/download are the only points where host memory is touched, download waits.
class Backend : public Ops {
 public:
  virtual const BackendInfo& info() const = 0;

  // Dtype in which matrix products take their inputs (norm outputs, attention outputs, ...): kF32 or kBF16.
  virtual DType activation_dtype() const = 0;
  // Dtype of cached keys and values.
  virtual DType kv_dtype() const = 0;

  // Zeroed, 64-byte aligned. Throws kOutOfMemory.
  virtual Storage allocate(size_t bytes) = 0;
  // Host -> backend, dst contiguous, src of the same dtype and size.
  virtual void upload(const TensorView& dst, const void* src) = 0;
  // Backend -> host, src contiguous. Returns when the bytes are there.
  virtual void download(const TensorView& src, void* dst) = 0;
  // All of them with one wait.
  virtual void download_all(std::span<const Download> parts) {
    for (const Download& part : parts) download(part.from, part.to);
  }

  // Runs `ops`, or what was kept of an earlier call with the same key. ops only calls ops, of this backend, that follow from the key:
  // no uploads, no downloads, and nothing allocated but the scratch. Inside another stretch it is part of that one.
  virtual void run_stretch(const StretchKey& key, const std::function<void()>& ops) {
    (void)key;
    ops();
  }
  // Whether stretches are kept. Who looks up between ops, at a cancel flag, does so between stretches then.
  virtual bool keeps_stretches() const { return false; }
  virtual StretchCounts stretch_counts() const { return {}; }

  // Of a device with memory of its own; none: the host's, which is shared with everybody and not priced.
  virtual std::optional<DeviceMemory> device_memory() const { return std::nullopt; }
  // What prepared weights take, and at most what ops keep between their kernels, where no product's input is larger than
  // `largest_input` bytes. For pricing (engine/memory_price.h).
  virtual size_t linear_bytes(int64_t in, int64_t out) const;
  virtual size_t picture_linear_bytes(int64_t in, int64_t out) const { return linear_bytes(in, out); }
  virtual size_t conv2d_bytes(int64_t in, int64_t out, int64_t kernel) const;
  virtual size_t op_memory_bytes(size_t largest_input) const {
    (void)largest_input;
    return 0;
  }

  // A hint at the end of a step: the caller is about to wake somebody, who should find a free core.
  virtual void rest() {}

  Tensor make(DType dtype, const Shape& shape) {
    Tensor out;
    out.storage = allocate(static_cast<size_t>(shape.size()) * dtype_size(dtype));
    out.view = TensorView(out.storage.get(), dtype, shape);
    return out;
  }
};

struct BackendOptions {
  std::string name;   // "reference" | "cpu" | "cuda" | "cuda:N" (device N)
  std::string dtype;  // "auto" | "float32" | "bfloat16"
  int threads = 0;    // 0 = one per physical core available to the process (backend/cpu/cores.h)
  int shared_by = 1;  // engines that divide the processor among them where threads is 0
  std::optional<bool> graphs = {};  // cuda: stretches as graphs (docs/cuda.md); not set: as ARDIFF_CUDA_GRAPHS says, 1 or 0
  // cuda: products of whole pictures by cuBLASLt (docs/cuda.md): "0" no, "1" yes, or the library's path; not set: as ARDIFF_CUDA_BLASLT says.
  std::optional<std::string> cublas_lt = {};
  std::optional<bool> warpgroups = {};       // cuda: kernels of warpgroup products where there are; not set: as ARDIFF_CUDA_WGMMA says
  std::optional<bool> storers = {};          // cuda: warps of their own store what warpgroups multiply; not set: as ARDIFF_CUDA_STORERS says
  std::optional<bool> shared_rows = {};      // cuda: clusters that share rows in warpgroup products; not set: as ARDIFF_CUDA_SHARED_ROWS says
  std::optional<bool> tiled_attention = {};  // cuda: attention_tiled.cu for tiled contexts; not set: as ARDIFF_CUDA_TILED says
  std::optional<bool> early_launches = {};   // cuda: kernels that begin before their predecessor's end; not set: as ARDIFF_CUDA_PDL says
};

// Throws kInvalidArgument when the named backend is not compiled in or cannot do what was asked; there is no
// silent fallback to another one.
std::unique_ptr<Backend> make_backend(const BackendOptions& options);

struct CudaDevice {
  std::string name;            // "NVIDIA H100 80GB HBM3"
  std::string architecture;    // compute capability, "9.0"
  int64_t memory_bytes = 0;    // all of it, whoever uses it
  std::string problem;         // why this build cannot use it; empty: it can
};

struct CudaDevices {
  std::string version;              // of the toolkit that the backend was built with, "13.0"; empty: this build has none
  std::string problem;              // why there is no device; empty: there are some
  std::vector<CudaDevice> devices;  // in the driver's order: the N of "cuda:N"
};

// Takes none of them into use: what is asked costs no memory on the device. Never throws for want of a driver or a device.
CudaDevices cuda_devices();

}  // namespace ardiff
