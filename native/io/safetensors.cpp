#include "io/safetensors.h"

#include <cstring>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

namespace ardiff {

namespace {

using nlohmann::json;

// Every dtype of the format with its size: sizes are checked even for tensors that the engine never reads.
// No destructor: process.exit runs those of static objects while the engine thread may still be loading.
constexpr std::pair<std::string_view, size_t> kElementSizes[] = {{"BOOL", 1}, {"U8", 1},  {"I8", 1},  {"F8_E4M3", 1}, {"F8_E5M2", 1},
                                                                 {"I16", 2},  {"U16", 2}, {"F16", 2}, {"BF16", 2},    {"I32", 4},
                                                                 {"U32", 4},  {"F32", 4}, {"I64", 8}, {"U64", 8},     {"F64", 8}};

std::optional<size_t> element_size(std::string_view name) {
  for (const auto& [dtype, size] : kElementSizes) {
    if (dtype == name) return size;
  }
  return std::nullopt;
}

std::optional<DType> engine_dtype(const std::string& name) {
  if (name == "F32") return DType::kF32;
  if (name == "BF16") return DType::kBF16;
  if (name == "F16") return DType::kF16;
  if (name == "I32") return DType::kI32;
  return std::nullopt;
}

// Where an error is: "file: tensor 'name'".
struct Place {
  std::string_view file;
  const std::string& tensor;
};

template <typename... Args>
void require(bool condition, const Place& place, Args&&... args) {
  check(condition, ErrorCode::kInvalidModel, place.file, ": tensor '", place.tensor, "': ", std::forward<Args>(args)...);
}

uint64_t unsigned_number(const json& value, const Place& place, const char* what) {
  require(value.is_number_unsigned(), place, what, " is not an unsigned integer");
  return value.get<uint64_t>();
}

struct Entry {
  std::string dtype;
  std::vector<uint64_t> dims;
  uint64_t begin = 0;
  uint64_t end = 0;
};

Entry parse_entry(const json& value, const Place& place, uint64_t data_size) {
  require(value.is_object(), place, "entry is not an object");
  const auto dtype = value.find("dtype");
  const auto shape = value.find("shape");
  const auto offsets = value.find("data_offsets");
  require(dtype != value.end() && dtype->is_string(), place, "no dtype");
  require(shape != value.end() && shape->is_array(), place, "no shape");
  require(offsets != value.end() && offsets->is_array() && offsets->size() == 2, place, "no data_offsets pair");

  Entry entry;
  entry.dtype = dtype->get<std::string>();
  const auto size = element_size(entry.dtype);
  require(size.has_value(), place, "unknown dtype ", entry.dtype);
  require(shape->size() <= 16, place, "rank ", shape->size(), " is not plausible");
  entry.begin = unsigned_number((*offsets)[0], place, "offset");
  entry.end = unsigned_number((*offsets)[1], place, "offset");
  require(entry.begin <= entry.end && entry.end <= data_size, place, "offsets [", entry.begin, ", ", entry.end,
          ") lie outside the file's ", data_size, " data bytes (truncated file?)");

  // A zero dimension makes the tensor empty whatever the others say; otherwise the product may not exceed the
  // file, which also keeps it from overflowing.
  uint64_t bytes = *size;
  bool empty = false;
  for (const json& dim : *shape) {
    const uint64_t n = unsigned_number(dim, place, "dimension");
    entry.dims.push_back(n);
    if (n == 0) empty = true;
    if (!empty) {
      require(n <= data_size / bytes + 1, place, "shape needs more than the file's ", data_size, " data bytes");
      bytes *= n;
    }
  }
  if (empty) bytes = 0;
  require(bytes == entry.end - entry.begin, place, "shape and dtype need ", bytes, " bytes, offsets [", entry.begin, ", ", entry.end,
          ") hold ", entry.end - entry.begin);
  return entry;
}

Shape to_shape(const std::vector<uint64_t>& dims) {
  const auto at = [&](size_t i) { return static_cast<int64_t>(dims[i]); };
  switch (dims.size()) {
    case 0: return {};
    case 1: return {at(0)};
    case 2: return {at(0), at(1)};
    case 3: return {at(0), at(1), at(2)};
    default: return {at(0), at(1), at(2), at(3)};
  }
}

json parse_header(std::string_view text, std::string_view label) {
  json header = json::parse(text.begin(), text.end(), nullptr, /*allow_exceptions=*/false);
  check(!header.is_discarded(), ErrorCode::kInvalidModel, label, ": header (bytes 8 to ", 8 + text.size(), ") is not JSON");
  check(header.is_object(), ErrorCode::kInvalidModel, label, ": header is not a JSON object");
  return header;
}

}  // namespace

std::map<std::string, HostTensor> parse_safetensors(std::span<const std::byte> file, std::string_view label) {
  check(file.size() >= 8, ErrorCode::kInvalidModel, label, ": ", file.size(), " bytes, too short for a safetensors file");
  uint64_t header_size = 0;
  std::memcpy(&header_size, file.data(), 8);
  check(header_size <= file.size() - 8, ErrorCode::kInvalidModel, label, ": header of ", header_size, " bytes at offset 8 exceeds the file's ",
        file.size(), " bytes");
  check(header_size <= kMaxSafetensorsHeader, ErrorCode::kInvalidModel, label, ": header of ", header_size, " bytes is over the limit of ",
        kMaxSafetensorsHeader);
  const std::span<const std::byte> data = file.subspan(8 + header_size);
  const json header = parse_header({reinterpret_cast<const char*>(file.data() + 8), header_size}, label);

  std::map<std::string, HostTensor> tensors;
  std::map<uint64_t, std::pair<uint64_t, std::string>> spans;  // begin -> (end, name), for the overlap check
  for (const auto& [name, value] : header.items()) {
    if (name == "__metadata__") continue;
    const Place place{label, name};
    const Entry entry = parse_entry(value, place, data.size());
    if (entry.begin < entry.end) {
      const auto [at, fresh] = spans.emplace(entry.begin, std::pair(entry.end, name));
      require(fresh, place, "overlaps '", at->second.second, "' at offset ", entry.begin);
    }
    const auto dtype = engine_dtype(entry.dtype);
    if (!dtype || entry.dims.size() > 4 || entry.begin == entry.end) continue;
    tensors.emplace(name, HostTensor{data.data() + entry.begin, *dtype, to_shape(entry.dims), std::string(label) + ": " + name});
  }
  uint64_t previous_end = 0;
  for (const auto& [begin, span] : spans) {
    const Place place{label, span.second};
    require(begin >= previous_end, place, "overlaps the tensor before it at offset ", begin);
    previous_end = span.first;
  }
  return tensors;
}

}  // namespace ardiff
