// Whether the cuda backend of this build finds a device, and what it says where it finds none. The op, golden and engine tests take
// the backend in where it does.
#include "support/cuda_device.h"

#include <gtest/gtest.h>

#include <vector>

#include "backend/backend.h"
#include "base/error.h"

namespace ardiff {
namespace {

#if ARDIFF_WITH_CUDA

class CudaDevice : public testing::Test {
 protected:
  void SetUp() override {
    (void)test::made_on_cuda([this] { backend_ = make_backend({"cuda", "auto", 0}); });
  }

  std::unique_ptr<Backend> backend_;
};

TEST_F(CudaDevice, SaysWhatItIs) {
  EXPECT_EQ(backend_->info().name, "cuda");
  EXPECT_EQ(backend_->info().dtype, DType::kBF16);  // what auto means here
  EXPECT_TRUE(backend_->info().isa.starts_with("sm_")) << backend_->info().isa;
  std::printf("  %s, %s\n", backend_->info().isa.c_str(), backend_->info().libraries.c_str());
  EXPECT_EQ(make_backend({"cuda:0", "float32", 0})->activation_dtype(), DType::kF32);
}

TEST_F(CudaDevice, IsAmongThoseListed) {
  const CudaDevices found = cuda_devices();
  EXPECT_EQ(found.problem, "");
  ASSERT_FALSE(found.devices.empty());
  const ardiff::CudaDevice& first = found.devices[0];
  EXPECT_EQ(first.problem, "");
  EXPECT_GT(first.memory_bytes, int64_t{1} << 30);
  EXPECT_NE(backend_->info().libraries.find("CUDA " + found.version + ", " + first.name), std::string::npos) << backend_->info().libraries;
  const std::string none = "cuda:" + std::to_string(found.devices.size());
  EXPECT_THROW(make_backend({none, "auto", 0}), Error);
}

// More than the staging ring holds, in pieces of no even size; the source is overwritten as soon as upload returns.
TEST_F(CudaDevice, UploadsLeaveTheCallersMemoryAtOnce) {
  const size_t words = (size_t{40} << 20) / 4 + 13;
  std::vector<uint32_t> expected(words), got(words);
  const Tensor tensor = backend_->make(DType::kI32, {static_cast<int64_t>(words)});
  size_t begin = 0;
  for (size_t size = 1; begin < words; size = size * 3 + 1) {
    const size_t count = std::min(size, words - begin);
    std::vector<uint32_t> piece(count);
    for (size_t i = 0; i < count; ++i) expected[begin + i] = piece[i] = static_cast<uint32_t>((begin + i) * 2654435761u);
    backend_->upload(TensorView(tensor.view.data + begin * 4, DType::kI32, {static_cast<int64_t>(count)}), piece.data());
    std::fill(piece.begin(), piece.end(), 0xdeadbeefu);
    begin += count;
  }
  backend_->download(tensor, got.data());
  EXPECT_EQ(got, expected);
}

TEST_F(CudaDevice, MemoryComesZeroedAndAligned) {
#if ARDIFF_CUDA_EMULATION
  constexpr uintptr_t kAlignment = 16;  // so that what is written behind the end is found
#else
  constexpr uintptr_t kAlignment = 256;
#endif
  for (int turn = 0; turn < 3; ++turn) {
    const Tensor tensor = backend_->make(DType::kF32, {1000003});
    EXPECT_EQ(reinterpret_cast<uintptr_t>(tensor.view.data) % kAlignment, 0u);
    std::vector<float> values(1000003, 1.0f);
    backend_->download(tensor, values.data());
    for (float value : values) ASSERT_EQ(value, 0.0f);
    std::fill(values.begin(), values.end(), 7.0f);
    backend_->upload(tensor, values.data());
  }
}

// Out of memory is an answer, not an end: the backend goes on.
TEST_F(CudaDevice, WorksOnAfterRunningOutOfMemory) {
  EXPECT_THROW(backend_->allocate(size_t{1} << 60), Error);
  const Tensor a = backend_->make(DType::kF32, {4}), b = backend_->make(DType::kF32, {4});
  const std::vector<float> ones(4, 1.0f);
  backend_->upload(a, ones.data());
  backend_->add(a, a, b);
  std::vector<float> twos(4);
  backend_->download(b, twos.data());
  EXPECT_EQ(twos, std::vector<float>(4, 2.0f));
}

// With or without a driver: the question itself is never an error.
TEST(CudaDevices, AreToldOrWhyThereAreNone) {
  const CudaDevices found = cuda_devices();
  EXPECT_FALSE(found.version.empty());
  EXPECT_EQ(found.devices.empty(), !found.problem.empty()) << found.problem;
}

#else

TEST(CudaDevice, IsNotPartOfThisBuild) {
  EXPECT_THROW(make_backend({"cuda", "auto", 0}), Error);
  EXPECT_EQ(cuda_devices().problem, "this build has no cuda backend");
  EXPECT_TRUE(cuda_devices().devices.empty());
}

#endif

}  // namespace
}  // namespace ardiff
