// An accelerator's weights, damaged: either a typed error or weights that fit the model. The input's first byte picks the file, the
// rest is edits to a whole one, so that every run is near one that loads; without edits it must. Build with -DARDIFF_FUZZ=ON and clang.
#include <algorithm>
#include <cstdlib>
#include <functional>
#include <span>

#include "backend/backend.h"
#include "model/diffusion_decoder.h"
#include "model/draft_model.h"
#include "model/flow_head.h"
#include "model/transdiff_weights.h"
#include "model/weights.h"
#include "support/accelerated_class_model.h"
#include "support/accelerated_model.h"

namespace {

using namespace ardiff;
using namespace ardiff::testing_support;

class DamagedFile {
 public:
  explicit DamagedFile(const NamedTensors& tensors) {
    const std::string file = safetensors_file(tensors, true);
    uint64_t size;
    std::memcpy(&size, file.data(), sizeof size);
    header_ = file.substr(sizeof size, size);
    data_ = file.substr(sizeof size + size);
  }

  // Four bytes an edit: what, where (16 bits), a value. The header's length is written anew behind them all: edits of the text
  // shall reach the parser and not stop at a length that no longer fits, which safetensors_fuzz looks for.
  void apply(std::span<const uint8_t> edits) {
    for (; edits.size() >= 4; edits = edits.subspan(4)) {
      const size_t place = edits[1] + 256u * edits[2];
      const char value = static_cast<char>(edits[3]);
      switch (edits[0] % 4) {
        case 0: if (!header_.empty()) header_[place % header_.size()] = value; break;
        case 1: header_.insert(place % (header_.size() + 1), 1, value); break;
        case 2: if (!header_.empty()) header_.erase(place % header_.size(), 1 + edits[3] % 128u); break;
        default: data_.resize(data_.size() - std::min(data_.size(), place)); break;
      }
    }
  }

  std::string bytes() const {
    const uint64_t size = header_.size();
    return std::string(reinterpret_cast<const char*>(&size), sizeof size) + header_ + data_;
  }

 private:
  std::string header_, data_;
};

struct Target {
  std::string stem;
  DamagedFile whole;
  std::function<void(const Checkpoint&)> load;
};

Backend& backend() {
  static const std::unique_ptr<Backend> made = make_backend({"reference", "float32", 1});
  return *made;
}

std::vector<Target> make_targets() {
  static AcceleratedModel captions;
  static const AcceleratedClassModel classes;
  static const NextStepConfig config = read_nextstep_config(captions.path());
  static const TransDiffConfig class_config = read_transdiff_config(classes.path(), Checkpoint(classes.path(), "model"));
  const auto head = [](const Checkpoint& checkpoint, const std::string& prefix) {
    const FlowHead loaded(backend(), load_accelerator_head(backend(), checkpoint, prefix, config));
    if (loaded.token_size() != config.image.token_size()) std::abort();
  };
  return {
      {"draft", DamagedFile(captions.draft()),
       [head](const Checkpoint& checkpoint) {
         const DraftModel draft(backend(), config.backbone, load_draft(backend(), checkpoint, config));
         if (draft.mask_token().shape[1] != config.backbone.hidden_size) std::abort();
         head(checkpoint, "head.net.");
       }},
      {"few_step", DamagedFile(captions.few_step()), [head](const Checkpoint& checkpoint) { head(checkpoint, "image_head.net."); }},
      {"few_step", DamagedFile(classes.few_step()),
       [](const Checkpoint& checkpoint) {
         const TransDiffConfig few_step = few_step_config(checkpoint, class_config);
         const DiffusionDecoderWeights weights = load_few_step_decoder(backend(), checkpoint, few_step);
         if (static_cast<int64_t>(weights.blocks.size()) != few_step.diffusion_blocks) std::abort();
       }},
  };
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const std::vector<Target> targets = make_targets();
  static const TempDir folder;
  if (size == 0) return 0;
  const Target& target = targets[data[0] % targets.size()];
  const std::span<const uint8_t> edits(data + 1, size - 1);
  DamagedFile file = target.whole;
  file.apply(edits);
  folder.write(target.stem + ".safetensors", file.bytes());
  try {
    target.load(Checkpoint(folder.path(), target.stem));
  } catch (const Error& error) {
    if (error.code() != ErrorCode::kInvalidModel || edits.size() < 4) std::abort();
  }
  return 0;
}
