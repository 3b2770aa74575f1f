#include "io/checkpoint.h"

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <cstring>
#include <set>

#include "io/json_file.h"
#include "io/safetensors.h"

namespace ardiff {

namespace fs = std::filesystem;

namespace {

// A shard name from an index is untrusted: a bare file name, nothing that walks elsewhere.
bool is_plain_file_name(const std::string& name) {
  return !name.empty() && name.find('/') == std::string::npos && name.find('\\') == std::string::npos && name != "." && name != ".." &&
         name.find('\0') == std::string::npos;
}

std::set<std::string> shards_of(const nlohmann::json& index, const std::string& label) {
  const auto map = index.find("weight_map");
  check(map != index.end() && map->is_object(), ErrorCode::kInvalidModel, label, ": no weight_map object");
  std::set<std::string> shards;
  for (const auto& [tensor, file] : map->items()) {
    check(file.is_string() && is_plain_file_name(file.get<std::string>()), ErrorCode::kInvalidModel, label, ": weight_map['", tensor,
          "'] is not a file name");
    shards.insert(file.get<std::string>());
  }
  return shards;
}

}  // namespace

Checkpoint::Checkpoint(const fs::path& directory, const std::string& stem, std::shared_ptr<LoadProgress> progress) : progress_(std::move(progress)) {
  const std::string single = stem + ".safetensors";
  const std::string index = single + ".index.json";
  label_ = directory.filename().empty() ? single : (directory.filename() / single).string();
  if (fs::exists(directory / index)) {
    const nlohmann::json parsed = read_json_file(directory / index);
    for (const std::string& shard : shards_of(parsed, index)) add_file(directory / shard, shard);
    for (const auto& [tensor, file] : parsed["weight_map"].items()) {
      check(tensors_.contains(tensor), ErrorCode::kInvalidModel, index, ": tensor '", tensor, "' is not in ", file.get<std::string>());
    }
  } else {
    check(fs::exists(directory / single), ErrorCode::kInvalidModel, (directory / single).string(), ": no such file");
    add_file(directory / single, single);
  }
}

void Checkpoint::add_file(const fs::path& path, const std::string& label) {
  files_.push_back(std::make_unique<MmapFile>(path));
  for (auto& [name, tensor] : parse_safetensors(files_.back()->bytes(), label)) {
    const auto [at, fresh] = tensors_.emplace(name, tensor);
    check(fresh, ErrorCode::kInvalidModel, label, ": tensor '", name, "' is in another shard too");
    const size_t alignment = dtype_size(tensor.dtype);
    if (reinterpret_cast<uintptr_t>(tensor.data) % alignment != 0) {
      const size_t bytes = static_cast<size_t>(tensor.shape.size()) * alignment;
      aligned_.push_back(std::make_unique<std::byte[]>(bytes));
      std::memcpy(aligned_.back().get(), tensor.data, bytes);
      at->second.data = aligned_.back().get();
    }
  }
}

HostTensor Checkpoint::find(const std::string& name) const {
  auto found = tensors_.find(name);
  if (found == tensors_.end()) found = tensors_.find("model." + name);
  return found == tensors_.end() ? HostTensor{} : found->second;
}

HostTensor Checkpoint::optional(const std::string& name, const Shape& shape) const {
  HostTensor tensor = find(name);
  if (tensor) {
    check(tensor.shape == shape, ErrorCode::kInvalidModel, tensor.name, ": expected shape ", shape.text(), " from the config, found ",
          tensor.shape.text());
    check(tensor.dtype != DType::kI32, ErrorCode::kInvalidModel, tensor.name, ": expected a float dtype, found ", dtype_name(tensor.dtype));
    if (progress_) progress_->bytes += tensor.shape.size() * static_cast<int64_t>(dtype_size(tensor.dtype));
  }
  return tensor;
}

HostTensor Checkpoint::require(const std::string& name, const Shape& shape) const {
  HostTensor tensor = optional(name, shape);
  check(static_cast<bool>(tensor), ErrorCode::kInvalidModel, label_, ": tensor '", name, "' of shape ", shape.text(), " is missing");
  return tensor;
}

int64_t Checkpoint::count_numbered(const std::string& prefix) const {
  int64_t count = 0;
  for (const auto& entry : tensors_) {
    const std::string& name = entry.first;
    if (!name.starts_with(prefix)) continue;
    int64_t number = 0;
    const char* end = name.data() + name.size();
    const auto [stop, error] = std::from_chars(name.data() + prefix.size(), end, number);
    if (error == std::errc() && number >= 0 && number < INT32_MAX && stop != end && *stop == '.') count = std::max(count, number + 1);
  }
  return count;
}

int64_t Checkpoint::parameters() const {
  int64_t total = 0;
  for (const auto& [name, tensor] : tensors_) total += tensor.shape.size();
  return total;
}

size_t Checkpoint::bytes() const {
  size_t total = 0;
  for (const auto& [name, tensor] : tensors_) total += static_cast<size_t>(tensor.shape.size()) * dtype_size(tensor.dtype);
  return total;
}

}  // namespace ardiff
