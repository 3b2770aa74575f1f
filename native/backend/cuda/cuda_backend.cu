#include "backend/cuda/cuda_backend.h"

#include <charconv>
#include <cstdlib>
#include <cstring>
#include <string_view>

#include "backend/cuda/cublas_lt.h"
#include "backend/cuda/device.h"
#include "backend/cuda/make_cuda_backend.h"

namespace ardiff {

using namespace cuda;

namespace {

__global__ void probe_kernel() {}

// "cuda" -> 0, "cuda:3" -> 3.
int device_of(const std::string& name) {
  if (name == "cuda") return 0;
  constexpr std::string_view kPrefix = "cuda:";
  int device = -1;
  const char *begin = name.data() + std::min(name.size(), kPrefix.size()), *end = name.data() + name.size();
  const auto [stop, error] = std::from_chars(begin, end, device);
  const bool valid = name.starts_with(kPrefix) && error == std::errc{} && stop == end && device >= 0;
  check(valid, ErrorCode::kInvalidArgument, "backend ", name, ": expected cuda or cuda:N");
  return device;
}

cudaDeviceProp properties(int device) {
  cudaDeviceProp out{};
  check_cuda(cudaGetDeviceProperties(&out, device), "device properties");
  return out;
}

DType dtype_of(const BackendOptions& options) { return options.dtype == "float32" ? DType::kF32 : DType::kBF16; }

BackendInfo make_info(const cudaDeviceProp& device, const BackendOptions& options, const CublasLt* lt) {
  std::ostringstream libraries;
  libraries << "CUDA " << CUDART_VERSION / 1000 << "." << CUDART_VERSION % 1000 / 10 << ", " << device.name;
  if (lt != nullptr) libraries << ", cuBLASLt " << lt->version();
  return {options.name, dtype_of(options), 1,
          "sm_" + std::to_string(device.major) + std::to_string(device.minor), libraries.str()};
}

// Selected for the calling thread, which is the one that owns the backend, before it is made.
void select(int device) { check_cuda(cudaSetDevice(device), "select the device"); }

std::string environment(const char* name) {
  const char* const text = std::getenv(name);
  return text != nullptr ? text : "";
}

// An environment variable that is 1, 0 or not set.
bool is_set(const char* name, bool otherwise) {
  const std::string value = environment(name);
  check(value.empty() || value == "0" || value == "1", ErrorCode::kInvalidArgument, name, ": expected 0 or 1, got ", value);
  return value.empty() ? otherwise : value == "1";
}

// As the option says or, where it does not, the environment.
bool use(const std::optional<bool>& option, const char* name, bool otherwise) { return option ? *option : is_set(name, otherwise); }

bool use_graphs(const BackendOptions& options) { return use(options.graphs, "ARDIFF_CUDA_GRAPHS", true); }

// As graphs. Only where the code that runs has the instructions: an older device's would be wrong.
bool use_early_launches(const BackendOptions& options) {
  cudaFuncAttributes code{};
  check_cuda(cudaFuncGetAttributes(&code, probe_kernel), "attributes of a kernel");
  const bool wanted = use(options.early_launches, "ARDIFF_CUDA_PDL", true);
  return wanted && code.ptxVersion >= 90;
}

// Results are the same bits either way. 9.0a is for devices of 9.0 alone.
bool use_warpgroups(const cudaDeviceProp& device, const BackendOptions& options) {
#if defined(ARDIFF_CUDA_90A)
  const bool possible = device.major == 9 && device.minor == 0;
#else
  const bool possible = false;
#endif
  return use(options.warpgroups, "ARDIFF_CUDA_WGMMA", true) && possible && dtype_of(options) == DType::kBF16;
}

// Bits are others than without it.
bool use_tiled_attention(const BackendOptions& options) {
  return use(options.tiled_attention, "ARDIFF_CUDA_TILED", true) && dtype_of(options) == DType::kBF16;
}

// Where it is found, unless asked otherwise; found or not where it was asked for. float32 has no use for it: own products are plain sums
// there.
std::unique_ptr<CublasLt> use_cublas_lt(const BackendOptions& options) {
  const std::string value = options.cublas_lt ? *options.cublas_lt : environment("ARDIFF_CUDA_BLASLT");
  const bool path = value.starts_with('/');
  check(value.empty() || value == "0" || value == "1" || path, ErrorCode::kInvalidArgument,
        "ARDIFF_CUDA_BLASLT: expected 0, 1 or the path of the library, got ", value);
  if (value == "0" || dtype_of(options) == DType::kF32) return nullptr;
  if (value.empty() && !lt::is_there()) return nullptr;
  return std::make_unique<CublasLt>(path ? value : "", /*required=*/!value.empty());
}

}  // namespace

CudaBackend::CudaBackend(int device, const BackendOptions& options, const CudaLimits& limits)
    : tiled_attention_(use_tiled_attention(options)),
      limits_(limits),
      cublas_lt_(use_cublas_lt(options)),
      info_(make_info(properties(device), options, cublas_lt_.get())),
      stream_(use_early_launches(options)),
      graphs_(use_graphs(options), stream_) {
  if (stream_.launches_early()) info_.libraries += ", dependent launches";
  check_cuda(cudaDeviceGetAttribute(&sm_count_, cudaDevAttrMultiProcessorCount, device), "device attributes");
  int shared_bytes = 0;
  check_cuda(cudaDeviceGetAttribute(&shared_bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device), "device attributes");
  block_shared_bytes_ = static_cast<size_t>(shared_bytes);
  if (use_warpgroups(properties(device), options)) {
    wide_ = {sm_count_, use(options.storers, "ARDIFF_CUDA_STORERS", false), use(options.shared_rows, "ARDIFF_CUDA_SHARED_ROWS", false)};
    info_.libraries += ", warpgroup products";
    if (wide_.storers) info_.libraries += ", storing warps";
    if (wide_.shared_rows) info_.libraries += ", shared rows";
  }
  if (tiled_attention_) info_.libraries += ", tiled attention";
}

CudaBackend::~CudaBackend() { (void)cudaStreamSynchronize(stream_); }

Storage CudaBackend::allocate(size_t bytes) {
  check(!graphs_.capturing(), ErrorCode::kInternal, "a stretch allocates ", bytes, " bytes when it comes again");
  constexpr size_t kSmallest = 256;
  const size_t size = std::max(bytes, kSmallest);
  void* memory = nullptr;
  const cudaError_t status = cudaMalloc(&memory, size);
  if (status != cudaSuccess) {
    (void)cudaGetLastError();
    size_t free = 0, total = 0;
    (void)cudaMemGetInfo(&free, &total);
    const bool too_much = status == cudaErrorMemoryAllocation || bytes > total;
    if (too_much) fail(ErrorCode::kOutOfMemory, "out of memory: ", bytes, " bytes, the device has ", free, " of ", total, " free");
  }
  check_cuda(status, "allocate");
  // cudaFree waits for every kernel that was enqueued before it.
  Storage storage(static_cast<std::byte*>(memory), [](std::byte* pointer) { (void)cudaFree(pointer); });
  check_cuda(cudaMemsetAsync(memory, 0, size, stream_), "clear memory");
  return storage;
}

void CudaBackend::upload(const TensorView& dst, const void* src) {
  check(dst.contiguous(), ErrorCode::kInternal, "upload: destination must be contiguous");
  check(!graphs_.inside(), ErrorCode::kInternal, "upload inside a stretch");
  staging_.upload(dst.data, src, dst.bytes(), stream_);
}

void CudaBackend::download(const TensorView& src, void* dst) {
  check(src.contiguous(), ErrorCode::kInternal, "download: source must be contiguous");
  check(!graphs_.inside(), ErrorCode::kInternal, "download inside a stretch");
  if (src.bytes() != 0) check_cuda(cudaMemcpyAsync(dst, src.data, src.bytes(), cudaMemcpyDeviceToHost, stream_), "download");
  check_cuda(cudaStreamSynchronize(stream_), "download");
}

// Through pinned memory: a copy to any other makes the host wait by itself.
void CudaBackend::download_all(std::span<const Download> parts) {
  check(!graphs_.inside(), ErrorCode::kInternal, "download inside a stretch");
  size_t total = 0;
  for (const Download& part : parts) {
    check(part.from.contiguous(), ErrorCode::kInternal, "download: source must be contiguous");
    total += part.from.bytes();
  }
  if (total == 0) return;
  std::byte* const arrivals = arrivals_.get(total);
  std::byte* at = arrivals;
  for (const Download& part : parts) {
    if (part.from.bytes() != 0) check_cuda(cudaMemcpyAsync(at, part.from.data, part.from.bytes(), cudaMemcpyDeviceToHost, stream_), "download");
    at += part.from.bytes();
  }
  check_cuda(cudaStreamSynchronize(stream_), "download");
  at = arrivals;
  for (const Download& part : parts) {
    if (part.from.bytes() != 0) std::memcpy(part.to, at, part.from.bytes());
    at += part.from.bytes();
  }
}

void CudaBackend::run_stretch(const StretchKey& key, const std::function<void()>& ops) {
  graphs_.run(key, activations_.moves() + workspace_.moves(), ops);
}

std::unique_ptr<Backend> make_cuda_backend(const BackendOptions& options, const CudaLimits& limits) {
  const int device = device_of(options.name);
  const CudaDevices found = find_cuda_devices();
  check(found.problem.empty(), ErrorCode::kInvalidArgument, "backend ", options.name, ": ", found.problem);
  const auto count = static_cast<int>(found.devices.size());
  check(device < count, ErrorCode::kInvalidArgument, "backend ", options.name, ": this machine has ", count, " CUDA device(s)");
  const CudaDevice& chosen = found.devices[static_cast<size_t>(device)];
  select(device);
  cudaFuncAttributes attributes{};
  const cudaError_t status = cudaFuncGetAttributes(&attributes, probe_kernel);
  (void)cudaGetLastError();
  const std::string why = chosen.problem.empty() ? cudaGetErrorString(status) : chosen.problem;
  check(status == cudaSuccess, ErrorCode::kInvalidArgument, "backend ", options.name, ": ", chosen.name, ": ", why);
  return std::make_unique<CudaBackend>(device, options, limits);
}

}  // namespace ardiff
