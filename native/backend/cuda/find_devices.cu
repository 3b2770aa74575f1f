// The devices of the machine, and which of them this build can use.
#include <algorithm>
#include <array>

#include "backend/cuda/device.h"
#include "backend/cuda/make_cuda_backend.h"

namespace ardiff {

using namespace cuda;

namespace {

constexpr int kOldest = 800;  // compute capability 8.0: cp.async and bf16 tensor cores

// What the compiler was told to make code for, in hundreds: 800, 900.
#ifdef __CUDA_ARCH_LIST__
constexpr std::array kCompiled = {__CUDA_ARCH_LIST__};
#else
constexpr std::array kCompiled = {900};  // the emulation
#endif

std::string version(int number, int whole, int tenth) {
  return std::to_string(number / whole) + "." + std::to_string(number % whole / tenth);
}
std::string runtime_version(int number) { return version(number, 1000, 10); }
std::string capability(int number) { return version(number, 100, 10); }

// Code runs on later devices of its generation; PTX, which would run on later generations too, is not part of a usual build.
std::string problem_of(int architecture) {
  if (architecture < kOldest) return "compute capability " + capability(architecture) + ", " + capability(kOldest) + " is needed";
  const auto runs = [&](int compiled) { return compiled / 100 == architecture / 100 && compiled <= architecture; };
  if (std::any_of(kCompiled.begin(), kCompiled.end(), runs)) return "";
  std::string has;
  for (const int compiled : kCompiled) has += (has.empty() ? "" : ", ") + capability(compiled);
  return "this build has no code for compute capability " + capability(architecture) + " (it has " + has + ")";
}

std::string problem_of(cudaError_t status, int count) {
  if (status == cudaErrorNoDevice || (status == cudaSuccess && count == 0)) return "no CUDA device";
  if (status == cudaSuccess) return "";
  int driver = 0;
  (void)cudaDriverGetVersion(&driver);
  if (driver == 0) return "no CUDA driver on this machine";
  const std::string versions = "driver for CUDA " + runtime_version(driver) + ", built with " + runtime_version(CUDART_VERSION);
  return std::string(cudaGetErrorString(status)) + " (" + versions + ")";
}

}  // namespace

CudaDevices find_cuda_devices() {
  CudaDevices out;
  out.version = runtime_version(CUDART_VERSION);
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  (void)cudaGetLastError();
  out.problem = problem_of(status, count);
  if (!out.problem.empty()) return out;
  for (int device = 0; device < count; ++device) {
    cudaDeviceProp properties{};
    const cudaError_t read = cudaGetDeviceProperties(&properties, device);
    (void)cudaGetLastError();
    if (read != cudaSuccess) {
      out.devices.push_back({"device " + std::to_string(device), "", 0, cudaGetErrorString(read)});
      continue;
    }
    const int architecture = properties.major * 100 + properties.minor * 10;
    const auto memory = static_cast<int64_t>(properties.totalGlobalMem);
    out.devices.push_back({properties.name, capability(architecture), memory, problem_of(architecture)});
  }
  return out;
}

}  // namespace ardiff
