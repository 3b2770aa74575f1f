#include "backend/cuda/cuda_backend.h"

#include <charconv>
#include <string_view>

#include "backend/cuda/device.h"
#include "backend/cuda/make_cuda_backend.h"

namespace ardiff {

using namespace cuda;

namespace {

constexpr int kOldestArchitecture = 8;  // major compute capability: cp.async and bf16 tensor cores

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

// The devices that the driver shows; no driver and no device are both an error that says so.
int device_count(const std::string& name) {
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  (void)cudaGetLastError();
  if (status == cudaSuccess && count > 0) return count;
  if (status == cudaSuccess || status == cudaErrorNoDevice) fail(ErrorCode::kInvalidArgument, "backend ", name, ": no CUDA device");
  int driver = 0;
  (void)cudaDriverGetVersion(&driver);
  if (driver == 0) fail(ErrorCode::kInvalidArgument, "backend ", name, ": no CUDA driver on this machine");
  fail(ErrorCode::kInvalidArgument, "backend ", name, ": ", cudaGetErrorString(status), " (driver for CUDA ", driver / 1000, ".",
       driver % 1000 / 10, ", built with ", CUDART_VERSION / 1000, ".", CUDART_VERSION % 1000 / 10, ")");
}

cudaDeviceProp properties(int device) {
  cudaDeviceProp out{};
  check_cuda(cudaGetDeviceProperties(&out, device), "device properties");
  return out;
}

BackendInfo make_info(const cudaDeviceProp& device, const BackendOptions& options) {
  std::ostringstream libraries;
  libraries << "CUDA " << CUDART_VERSION / 1000 << "." << CUDART_VERSION % 1000 / 10 << ", " << device.name;
  return {options.name, options.dtype == "float32" ? DType::kF32 : DType::kBF16, 1,
          "sm_" + std::to_string(device.major) + std::to_string(device.minor), libraries.str()};
}

// Selected for the calling thread, which is the one that owns the backend, before the first member asks for anything of it.
int select(int device) {
  check_cuda(cudaSetDevice(device), "select the device");
  return device;
}

}  // namespace

CudaBackend::CudaBackend(int device, const BackendOptions& options) : info_(make_info(properties(select(device)), options)) {
  check_cuda(cudaDeviceGetAttribute(&sm_count_, cudaDevAttrMultiProcessorCount, device), "device attributes");
}

CudaBackend::~CudaBackend() { (void)cudaStreamSynchronize(stream_); }

Storage CudaBackend::allocate(size_t bytes) {
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
  staging_.upload(dst.data, src, dst.bytes(), stream_);
}

void CudaBackend::download(const TensorView& src, void* dst) {
  check(src.contiguous(), ErrorCode::kInternal, "download: source must be contiguous");
  if (src.bytes() != 0) check_cuda(cudaMemcpyAsync(dst, src.data, src.bytes(), cudaMemcpyDeviceToHost, stream_), "download");
  check_cuda(cudaStreamSynchronize(stream_), "download");
}

std::unique_ptr<Backend> make_cuda_backend(const BackendOptions& options) {
  const int device = device_of(options.name);
  const int count = device_count(options.name);
  check(device < count, ErrorCode::kInvalidArgument, "backend ", options.name, ": this machine has ", count, " CUDA device(s)");
  const cudaDeviceProp found = properties(device);
  check(found.major >= kOldestArchitecture, ErrorCode::kInvalidArgument, "backend ", options.name, ": ", found.name, " has compute capability ",
        found.major, ".", found.minor, ", 8.0 is needed");
  select(device);
  cudaFuncAttributes attributes{};
  const cudaError_t status = cudaFuncGetAttributes(&attributes, probe_kernel);
  (void)cudaGetLastError();
  check(status == cudaSuccess, ErrorCode::kInvalidArgument, "backend ", options.name, ": this build has no code for compute capability ",
        found.major, ".", found.minor, " (", cudaGetErrorString(status), ")");
  return std::make_unique<CudaBackend>(device, options);
}

}  // namespace ardiff
