// What the op tests share: every compiled backend in every dtype and variant it has, tensors made from plain
// float vectors, and comparison with a stated tolerance.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "backend/backend.h"
#if ARDIFF_WITH_CPU
#include "backend/cpu/cpu_backend.h"
#endif

namespace ardiff::test {

struct Variant {
  std::string label;
  std::function<std::unique_ptr<Backend>()> make;
};

inline void PrintTo(const Variant& variant, std::ostream* out) { *out << variant.label; }

// Backends by name, then what of the cpu backend the machine does not choose by itself.
inline std::vector<Variant> variants() {
  std::vector<Variant> out;
  for (const char* name : {"cpu", "cuda"}) {
    for (const char* dtype : {"float32", "bfloat16"}) {
      const BackendOptions options{name, dtype, 0};
      try {
        make_backend(options);
      } catch (const Error&) {
        continue;
      }
      out.push_back({std::string(name) + "_" + dtype, [options] { return make_backend(options); }});
    }
  }
#if ARDIFF_WITH_CPU
  const auto kernels = cpu::available_kernels();
  for (const cpu::Kernels* table : kernels) {
    const BackendOptions options{"cpu", "float32", 3};  // more threads than many shapes have panels
    out.push_back({std::string("cpu_float32_") + table->isa, [=] { return make_cpu_backend(options, {table, {}}); }});
  }
  // The products the machine would not have chosen: oneDNN's without AMX, own ones with it.
  using Products = cpu::Choice::LargeProducts;
  const auto [label, products] = cpu::has_amx_bf16() ? std::pair("cpu_own_", Products::kOwn) : std::pair("cpu_onednn_", Products::kDnnl);
  for (const char* dtype : {"float32", "bfloat16"}) {
    if (std::string(dtype) == "bfloat16" && !kernels.front()->gemm_bf16) continue;
    const BackendOptions options{"cpu", dtype, 2};
    out.push_back({std::string(label) + dtype, [=, products = products] { return make_cpu_backend(options, {nullptr, products}); }});
  }
#endif
  return out;
}

inline std::string variant_name(const testing::TestParamInfo<Variant>& info) { return info.param.label; }

// Deterministic inputs. bf16 backends round them, so all are representable there and both sides see the same.
class Values {
 public:
  std::vector<float> normal(int64_t count, float scale = 1.0f) {
    std::vector<float> out(static_cast<size_t>(count));
    for (float& value : out) value = bf16_to_f32(f32_to_bf16(scale * distribution_(engine_)));
    return out;
  }
  std::vector<int32_t> below(int64_t count, int32_t limit) {
    std::vector<int32_t> out(static_cast<size_t>(count));
    for (int32_t& value : out) value = static_cast<int32_t>(engine_() % static_cast<uint32_t>(limit));
    return out;
  }
  // A random order of 0 ... count - 1.
  std::vector<int32_t> order(int32_t count) {
    std::vector<int32_t> out(static_cast<size_t>(count));
    for (int32_t i = 0; i < count; ++i) out[static_cast<size_t>(i)] = i;
    std::shuffle(out.begin(), out.end(), engine_);
    return out;
  }

 private:
  std::mt19937 engine_{7};
  std::normal_distribution<float> distribution_;
};

inline Tensor put(Backend& backend, DType dtype, const Shape& shape, const std::vector<float>& values) {
  Tensor out = backend.make(dtype, shape);
  if (dtype == DType::kF32) {
    backend.upload(out, values.data());
  } else {
    std::vector<bf16_t> rounded;
    for (float value : values) rounded.push_back(f32_to_bf16(value));
    backend.upload(out, rounded.data());
  }
  return out;
}

inline Tensor put(Backend& backend, const std::vector<int32_t>& values) {
  Tensor out = backend.make(DType::kI32, {static_cast<int64_t>(values.size())});
  backend.upload(out, values.data());
  return out;
}

inline Tensor put(Backend& backend, const Shape& shape, const std::vector<int32_t>& values) {
  Tensor out = put(backend, values);
  out.view = out.view.reshape(shape);
  return out;
}

inline Tensor f32(Backend& backend, const Shape& shape, const std::vector<float>& values) { return put(backend, DType::kF32, shape, values); }
inline Tensor act(Backend& backend, const Shape& shape, const std::vector<float>& values) {
  return put(backend, backend.activation_dtype(), shape, values);
}

// The raw bytes of a contiguous tensor: what "the same bits" compares.
inline std::vector<std::byte> bytes(Backend& backend, const TensorView& view) {
  std::vector<std::byte> out(view.bytes());
  backend.download(view, out.data());
  return out;
}

inline std::vector<float> get(Backend& backend, const TensorView& view) {
  const std::vector<std::byte> raw = bytes(backend, view);
  std::vector<float> out(static_cast<size_t>(view.shape.size()));
  for (size_t i = 0; i < out.size(); ++i) {
    if (view.dtype == DType::kF32) {
      std::memcpy(&out[i], raw.data() + 4 * i, 4);
    } else {
      bf16_t half;
      std::memcpy(&half, raw.data() + 2 * i, 2);
      out[i] = bf16_to_f32(half);
    }
  }
  return out;
}

// |actual - expected| <= absolute + relative |expected|. A bf16 result adds its own rounding, half of 2^-8.
struct Tolerance {
  float absolute;
  float relative;
};

inline void expect_near(const std::vector<float>& expected, const std::vector<float>& actual, DType dtype, Tolerance tolerance,
                        const std::string& what) {
  ASSERT_EQ(expected.size(), actual.size()) << what;
  if (dtype == DType::kBF16) tolerance.relative += 0x1p-8f;
  for (size_t i = 0; i < expected.size(); ++i) {
    const float allowed = tolerance.absolute + tolerance.relative * std::fabs(expected[i]);
    ASSERT_LE(std::fabs(actual[i] - expected[i]), allowed) << what << ", element " << i << ": expected " << expected[i] << ", got " << actual[i];
    ASSERT_EQ(std::isnan(actual[i]), std::isnan(expected[i])) << what << ", element " << i;
  }
}

inline HostTensor host(const std::vector<float>& values, const Shape& shape) { return {values.data(), DType::kF32, shape, "test"}; }

// Tests of one backend beside the reference.
class OpTest : public testing::TestWithParam<Variant> {
 protected:
  std::unique_ptr<Backend> reference_ = make_backend({"reference", "float32", 1});
  std::unique_ptr<Backend> backend_ = GetParam().make();
  Values values_;
};

}  // namespace ardiff::test
