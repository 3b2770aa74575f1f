// Tensors by name, to and from safetensors files, and random ones: what small accelerators for tests are made of.
#pragma once

#include <cstring>
#include <map>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include "io/mmap_file.h"
#include "io/safetensors.h"
#include "temp_dir.h"

namespace ardiff::testing_support {

struct NamedTensor {
  std::vector<int64_t> shape;
  std::vector<float> values;
};
using NamedTensors = std::map<std::string, NamedTensor>;

inline NamedTensors read_tensors(const std::filesystem::path& path) {
  const MmapFile file(path);
  NamedTensors out;
  for (const auto& [name, tensor] : parse_safetensors(file.bytes(), path.filename().string())) {
    NamedTensor& read = out[name];
    for (int i = 0; i < tensor.shape.rank(); ++i) read.shape.push_back(tensor.shape[i]);
    read.values.resize(static_cast<size_t>(tensor.shape.size()));
    for (size_t i = 0; i < read.values.size(); ++i) {
      const auto* bytes = static_cast<const std::byte*>(tensor.data);
      if (tensor.dtype == DType::kF32) {
        std::memcpy(&read.values[i], bytes + 4 * i, 4);
      } else {
        bf16_t half;
        std::memcpy(&half, bytes + 2 * i, 2);
        read.values[i] = bf16_to_f32(half);
      }
    }
  }
  return out;
}

// The bytes of a safetensors file; bf16 as accelerators are stored, else float32.
inline std::string safetensors_file(const NamedTensors& tensors, bool bf16) {
  std::ostringstream header;
  std::string data;
  for (const auto& [name, tensor] : tensors) {
    const size_t begin = data.size();
    for (const float value : tensor.values) {
      const bf16_t half = f32_to_bf16(value);
      data.append(bf16 ? reinterpret_cast<const char*>(&half) : reinterpret_cast<const char*>(&value), bf16 ? 2 : 4);
    }
    header << (begin == 0 ? '{' : ',') << '"' << name << R"(":{"dtype":")" << (bf16 ? "BF16" : "F32") << R"(","shape":[)";
    for (size_t i = 0; i < tensor.shape.size(); ++i) header << (i == 0 ? "" : ",") << tensor.shape[i];
    header << R"(],"data_offsets":[)" << begin << ',' << data.size() << "]}";
  }
  header << '}';
  std::string text = header.str();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  const uint64_t size = text.size();
  return std::string(reinterpret_cast<const char*>(&size), 8) + text + data;
}

// Those whose name begins with `from`, with `to` in its place.
inline NamedTensors renamed(const NamedTensors& tensors, const std::string& from, const std::string& to) {
  NamedTensors out;
  for (const auto& [name, tensor] : tensors) {
    if (name.starts_with(from)) out[to + name.substr(from.size())] = tensor;
  }
  return out;
}

inline NamedTensor random_tensor(std::mt19937& engine, std::vector<int64_t> shape, float scale) {
  size_t size = 1;
  for (const int64_t dim : shape) size *= static_cast<size_t>(dim);
  NamedTensor out{std::move(shape), std::vector<float>(size)};
  // Sums of uniforms: the same numbers with every standard library.
  for (float& value : out.values) {
    float sum = -2.0f;
    for (int i = 0; i < 4; ++i) sum += static_cast<float>(engine()) * 0x1p-32f;
    value = scale * sum * 1.7320508f;
  }
  return out;
}

}  // namespace ardiff::testing_support
