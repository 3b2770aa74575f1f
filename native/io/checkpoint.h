// The weights of one model part: a single safetensors file or a sharded index, seen as one name -> tensor map.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "io/load_progress.h"
#include "io/mmap_file.h"
#include "tensor/tensor_view.h"

namespace ardiff {

class Checkpoint {
 public:
  // Opens `<stem>.safetensors`, or `<stem>.safetensors.index.json` ("weight_map": tensor name -> file) with its
  // shards. Throws kInvalidModel when neither is there or any is broken. Shards are named relative to
  // `directory` and may not leave it. progress: counts the tensors that require() and optional() give; null: nobody asks.
  Checkpoint(const std::filesystem::path& directory, const std::string& stem, std::shared_ptr<LoadProgress> progress = nullptr);

  // The named tensor with exactly this shape; throws kInvalidModel naming what was expected and found. A name is
  // also looked up behind the optional prefix "model.".
  HostTensor require(const std::string& name, const Shape& shape) const;
  // Empty when absent; a tensor that is there must have the shape.
  HostTensor optional(const std::string& name, const Shape& shape) const;
  // Any shape; empty when absent.
  HostTensor find(const std::string& name) const;

  // One more than the largest number n of a tensor named prefix + n + "." + anything; 0 without any.
  int64_t count_numbered(const std::string& prefix) const;

  // Sum over all tensors.
  int64_t parameters() const;
  size_t bytes() const;
  const std::string& label() const { return label_; }

 private:
  void add_file(const std::filesystem::path& path, const std::string& label);

  std::string label_;
  std::shared_ptr<LoadProgress> progress_;
  std::vector<std::unique_ptr<MmapFile>> files_;
  // Tensors whose bytes are not aligned to their dtype in the file, copied once so that kernels may load them.
  std::vector<std::unique_ptr<std::byte[]>> aligned_;
  std::map<std::string, HostTensor> tensors_;
};

}  // namespace ardiff
