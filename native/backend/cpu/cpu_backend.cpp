#include "backend/cpu/cpu_backend.h"

#include <algorithm>
#include <cstring>

#include "backend/cpu/cores.h"
#include "backend/cpu/dnnl_runtime.h"
#include "backend/host_memory.h"

namespace ardiff {
namespace {

DType compute_dtype(const BackendOptions& options, const cpu::Kernels& kernels) {
  const bool has_bf16 = kernels.gemm_bf16 != nullptr;
  if (options.dtype == "float32") return DType::kF32;
  if (options.dtype == "auto") return has_bf16 ? DType::kBF16 : DType::kF32;
  check(options.dtype == "bfloat16", ErrorCode::kInvalidArgument, "dtype: expected auto, float32 or bfloat16, got ", options.dtype);
  check(has_bf16, ErrorCode::kInvalidArgument, "dtype bfloat16 wants a processor with AVX512-BF16 or AMX, this one has ", kernels.isa);
  return DType::kBF16;
}

// Own kernels beat oneDNN's vector code or equal it, its AMX code beats them by far.
bool wants_dnnl_products(const cpu::Choice& choice, DType dtype) {
  if (choice.large_products == cpu::Choice::LargeProducts::kByMachine) return dtype == DType::kBF16 && cpu::has_amx_bf16();
  return choice.large_products == cpu::Choice::LargeProducts::kDnnl;
}

std::string library_text() {
  const dnnl_version_t* version = dnnl_version();
  return "oneDNN " + std::to_string(version->major) + "." + std::to_string(version->minor) + "." + std::to_string(version->patch);
}

BackendInfo make_info(const BackendOptions& options, const cpu::Choice& choice, const cpu::Kernels& kernels) {
  check(options.threads >= 0 && options.threads <= 1024, ErrorCode::kInvalidArgument, "threads: expected 0 to 1024, got ", options.threads);
  check(options.shared_by >= 1, ErrorCode::kInvalidArgument, "shared_by: expected at least 1, got ", options.shared_by);
  BackendInfo info;
  info.name = "cpu";
  info.dtype = compute_dtype(options, kernels);
  info.threads = options.threads > 0 ? options.threads : std::max(1, cpu::available_cores() / options.shared_by);
  info.isa = wants_dnnl_products(choice, info.dtype) && cpu::has_amx_bf16() ? "amx_bf16" : kernels.isa;
  info.libraries = library_text();
  return info;
}

}  // namespace

CpuBackend::CpuBackend(const BackendOptions& options, const cpu::Choice& choice)
    : kernels_(choice.kernels ? choice.kernels : cpu::available_kernels().front()),
      info_(make_info(options, choice, *kernels_)),
      dnnl_products_(wants_dnnl_products(choice, info_.dtype)),
      pool_(info_.threads),
      dnnl_(cpu::with_dnnl("cpu backend", [] { return std::make_unique<cpu::DnnlRuntime>(); })) {}

CpuBackend::~CpuBackend() = default;

Storage CpuBackend::allocate(size_t bytes) { return allocate_host(bytes); }

void CpuBackend::upload(const TensorView& dst, const void* src) {
  check(dst.contiguous(), ErrorCode::kInternal, "upload: destination must be contiguous");
  if (dst.bytes() != 0) std::memcpy(dst.data, src, dst.bytes());
}

void CpuBackend::download(const TensorView& src, void* dst) {
  check(src.contiguous(), ErrorCode::kInternal, "download: source must be contiguous");
  if (src.bytes() != 0) std::memcpy(dst, src.data, src.bytes());
}

std::unique_ptr<Backend> make_cpu_backend(const BackendOptions& options, const cpu::Choice& choice) {
  return std::make_unique<CpuBackend>(options, choice);
}

}  // namespace ardiff
