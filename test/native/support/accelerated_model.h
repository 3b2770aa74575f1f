// A small model folder with an accelerator, made in a temporary directory: the golden model with a flow head that hears
// less of its condition, so that a draft of random weights is accepted about as often as not; a draft model that starts
// from the model's own layers, its head the model's but for a bias; a few-step head of the model's head and a random interval_embed.
#pragma once

#include <cstring>
#include <map>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include "io/checkpoint.h"
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

class AcceleratedModel {
 public:
  explicit AcceleratedModel(float condition_scale = 0.3f) {
    std::filesystem::copy(std::filesystem::path(ARDIFF_GOLDEN_DIR) / "nextstep-tiny", path(), std::filesystem::copy_options::recursive);
    model_ = read_tensors(path() / "model.safetensors");
    for (float& value : model_.at("image_head.net.cond_embed.weight").values) value *= condition_scale;
    dir_.write("model.safetensors", safetensors_file(model_, false));
    write_few_step(few_step());
    write_draft(draft());
  }

  const std::filesystem::path& path() const { return dir_.path(); }
  std::filesystem::path accelerator() const { return path() / "accelerator"; }

  NamedTensors few_step() {
    NamedTensors out = renamed("image_head.net.", "image_head.net.");
    for (const char* part : {"0.weight", "0.bias", "2.weight", "2.bias"}) {
      const NamedTensor& like = model_.at(std::string("image_head.net.time_embed.mlp.") + part);
      out[std::string("image_head.net.interval_embed.mlp.") + part] = random(like.shape, 0.2f);
    }
    return out;
  }
  NamedTensors draft() {
    const auto h = static_cast<int64_t>(model_.at("norm.weight").values.size());
    NamedTensors out = renamed("image_head.net.", "head.net.");
    // Off to one side, so that a law that is the draft's shows.
    for (float& value : out.at("head.net.final_layer.linear.bias").values) value += 0.15f;
    for (const std::string layer : {"layers.0.", "layers.1."}) out.merge(renamed(layer, layer));
    out["fc.weight"] = random({h, 2 * h}, 0.15f);
    out["out.weight"] = random({h, h}, 0.05f);
    out["mask_token"] = random({h}, 1.0f);
    for (const char* name : {"feature_norm.weight", "token_norm.weight", "norm.weight"}) out[name] = {{h}, std::vector<float>(static_cast<size_t>(h), 1.0f)};
    return out;
  }
  void write_few_step(const NamedTensors& tensors) const { dir_.write("accelerator/few_step.safetensors", safetensors_file(tensors, true)); }
  void write_draft(const NamedTensors& tensors) const { dir_.write("accelerator/draft.safetensors", safetensors_file(tensors, true)); }
  const TempDir& dir() const { return dir_; }

 private:
  NamedTensors renamed(const std::string& from, const std::string& to) const {
    NamedTensors out;
    for (const auto& [name, tensor] : model_) {
      if (name.starts_with(from)) out[to + name.substr(from.size())] = tensor;
    }
    return out;
  }
  NamedTensor random(std::vector<int64_t> shape, float scale) {
    size_t size = 1;
    for (const int64_t dim : shape) size *= static_cast<size_t>(dim);
    NamedTensor out{std::move(shape), std::vector<float>(size)};
    // Sums of uniforms: the same numbers with every standard library.
    for (float& value : out.values) {
      float sum = -2.0f;
      for (int i = 0; i < 4; ++i) sum += static_cast<float>(engine_()) * 0x1p-32f;
      value = scale * sum * 1.7320508f;
    }
    return out;
  }

  TempDir dir_;
  NamedTensors model_;
  std::mt19937 engine_{11};
};

// Made once for a test program.
inline const AcceleratedModel& accelerated_model() {
  static const AcceleratedModel model;
  return model;
}

}  // namespace ardiff::testing_support
