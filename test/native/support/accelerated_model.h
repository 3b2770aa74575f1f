// A small model folder with an accelerator, made in a temporary directory: the golden model with a flow head that hears
// less of its condition, so that a draft of random weights is accepted about as often as not; a draft model that starts
// from the model's own layers, its head the model's but for a bias; a few-step head of the model's head and a random interval_embed.
#pragma once

#include <random>
#include <string>
#include <vector>

#include "support/golden_dir.h"
#include "support/tensor_files.h"

namespace ardiff::testing_support {

class AcceleratedModel {
 public:
  explicit AcceleratedModel(float condition_scale = 0.3f) {
    std::filesystem::copy(golden_dir() / "nextstep-tiny", path(), std::filesystem::copy_options::recursive);
    model_ = read_tensors(path() / "model.safetensors");
    for (float& value : model_.at("image_head.net.cond_embed.weight").values) value *= condition_scale;
    dir_.write("model.safetensors", safetensors_file(model_, false));
    write_few_step(few_step());
    write_draft(draft());
  }

  const std::filesystem::path& path() const { return dir_.path(); }
  std::filesystem::path accelerator() const { return path() / "accelerator"; }

  NamedTensors few_step() {
    NamedTensors out = renamed(model_, "image_head.net.", "image_head.net.");
    for (const char* part : {"0.weight", "0.bias", "2.weight", "2.bias"}) {
      const NamedTensor& like = model_.at(std::string("image_head.net.time_embed.mlp.") + part);
      out[std::string("image_head.net.interval_embed.mlp.") + part] = random_tensor(engine_, like.shape, 0.2f);
    }
    return out;
  }
  NamedTensors draft() {
    const auto h = static_cast<int64_t>(model_.at("norm.weight").values.size());
    NamedTensors out = renamed(model_, "image_head.net.", "head.net.");
    // Off to one side, so that a law that is the draft's shows.
    for (float& value : out.at("head.net.final_layer.linear.bias").values) value += 0.15f;
    for (const std::string layer : {"layers.0.", "layers.1."}) out.merge(renamed(model_, layer, layer));
    out["fc.weight"] = random_tensor(engine_, {h, 2 * h}, 0.15f);
    out["out.weight"] = random_tensor(engine_, {h, h}, 0.05f);
    out["mask_token"] = random_tensor(engine_, {h}, 1.0f);
    for (const char* name : {"feature_norm.weight", "token_norm.weight", "norm.weight"}) out[name] = {{h}, std::vector<float>(static_cast<size_t>(h), 1.0f)};
    return out;
  }
  void write_few_step(const NamedTensors& tensors) const { dir_.write("accelerator/few_step.safetensors", safetensors_file(tensors, true)); }
  void write_draft(const NamedTensors& tensors) const { dir_.write("accelerator/draft.safetensors", safetensors_file(tensors, true)); }
  const TempDir& dir() const { return dir_; }

 private:
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
