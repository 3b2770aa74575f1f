// train/'s small TransDiff model with an accelerator, made in a temporary directory: a few-step decoder of the model's own and
// a random interval_embed, so that it draws something else than the model, and something else for every jump.
#pragma once

#include <random>

#include "support/golden_dir.h"
#include "support/tensor_files.h"

namespace ardiff::testing_support {

class AcceleratedClassModel {
 public:
  AcceleratedClassModel() {
    std::filesystem::copy(golden_dir() / "../../train/golden-transdiff", path(),
                          std::filesystem::copy_options::recursive | std::filesystem::copy_options::overwrite_existing);
    std::filesystem::remove_all(accelerator());
    model_ = read_tensors(path() / "model.safetensors");
    write(few_step());
  }

  const std::filesystem::path& path() const { return dir_.path(); }
  std::filesystem::path accelerator() const { return path() / "accelerator"; }

  NamedTensors few_step(float interval = 0.3f) const {
    std::mt19937 engine(13);
    NamedTensors out = decoder();
    for (const char* part : {"linear_1.weight", "linear_1.bias", "linear_2.weight", "linear_2.bias"}) {
      out[kInterval + part] = random_tensor(engine, out.at(kTime + part).shape, interval);
    }
    return out;
  }
  // One whose time is the jump's length: what the interval's embedding is given shows in the result.
  NamedTensors few_step_of_length() const {
    NamedTensors out = decoder();
    for (const char* part : {"linear_1.weight", "linear_1.bias", "linear_2.weight", "linear_2.bias"}) out[kInterval + part] = out.at(kTime + part);
    for (const char* part : {"linear_2.weight", "linear_2.bias"}) {
      for (float& value : out.at(kTime + part).values) value = 0.0f;
    }
    return out;
  }
  // Drafts of it are off by that much, whatever they are of.
  NamedTensors few_step_off_by(float bias) const {
    NamedTensors out = few_step();
    for (float& value : out.at("diffdecoder.net.final_layer.linear.bias").values) value += bias;
    return out;
  }
  void write(const NamedTensors& tensors) const { dir_.write("accelerator/few_step.safetensors", safetensors_file(tensors, true)); }
  const TempDir& dir() const { return dir_; }

 private:
  inline static const std::string kTime = "diffdecoder.net.time_embed.time_embedder.", kInterval = "diffdecoder.net.interval_embed.";
  NamedTensors decoder() const { return renamed(model_, "diffdecoder.net.", "diffdecoder.net."); }

  TempDir dir_;
  NamedTensors model_;
};

}  // namespace ardiff::testing_support
