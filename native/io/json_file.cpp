#include "io/json_file.h"

#include <cmath>

#include "base/error.h"
#include "io/mmap_file.h"

namespace ardiff {

using nlohmann::json;

json read_json_file(const std::filesystem::path& path) {
  const MmapFile file(path);
  const auto bytes = file.bytes();
  check(bytes.size() <= (16u << 20), ErrorCode::kInvalidModel, path.string(), ": ", bytes.size(), " bytes is too large for a config");
  const char* begin = reinterpret_cast<const char*>(bytes.data());
  json parsed = json::parse(begin, begin + bytes.size(), nullptr, /*allow_exceptions=*/false);
  check(parsed.is_object(), ErrorCode::kInvalidModel, path.string(), ": not a JSON object");
  return parsed;
}

const json* ConfigReader::find(std::initializer_list<const char*> keys) const {
  for (const char* key : keys) {
    const auto found = object_.find(key);
    if (found != object_.end() && !found->is_null()) return &*found;
  }
  return nullptr;
}

int64_t ConfigReader::bounded(const json& value, const char* key, int64_t min, int64_t max) const {
  check(value.is_number_integer() && (!value.is_number_unsigned() || value.get<uint64_t>() <= static_cast<uint64_t>(INT64_MAX)),
        ErrorCode::kInvalidModel, label_, ": '", key, "' is not an integer");
  const int64_t number = value.get<int64_t>();
  check(number >= min && number <= max, ErrorCode::kInvalidModel, label_, ": '", key, "' = ", number, " is outside [", min, ", ", max, "]");
  return number;
}

int64_t ConfigReader::integer(std::initializer_list<const char*> keys, int64_t min, int64_t max) const {
  const json* value = find(keys);
  check(value != nullptr, ErrorCode::kInvalidModel, label_, ": '", *keys.begin(), "' is missing");
  return bounded(*value, *keys.begin(), min, max);
}

int64_t ConfigReader::integer_or(std::initializer_list<const char*> keys, int64_t fallback, int64_t min, int64_t max) const {
  const json* value = find(keys);
  return value == nullptr ? fallback : bounded(*value, *keys.begin(), min, max);
}

double ConfigReader::number_or(std::initializer_list<const char*> keys, double fallback) const {
  const json* value = find(keys);
  if (value == nullptr) return fallback;
  check(value->is_number() && std::isfinite(value->get<double>()), ErrorCode::kInvalidModel, label_, ": '", *keys.begin(), "' is not a number");
  return value->get<double>();
}

bool ConfigReader::boolean_or(std::initializer_list<const char*> keys, bool fallback) const {
  const json* value = find(keys);
  if (value == nullptr) return fallback;
  check(value->is_boolean(), ErrorCode::kInvalidModel, label_, ": '", *keys.begin(), "' is not true or false");
  return value->get<bool>();
}

std::string ConfigReader::text_or(std::initializer_list<const char*> keys, const std::string& fallback) const {
  const json* value = find(keys);
  if (value == nullptr) return fallback;
  check(value->is_string(), ErrorCode::kInvalidModel, label_, ": '", *keys.begin(), "' is not a string");
  return value->get<std::string>();
}

std::vector<int64_t> ConfigReader::integers_or(std::initializer_list<const char*> keys, std::vector<int64_t> fallback, int64_t min,
                                               int64_t max) const {
  const json* value = find(keys);
  if (value == nullptr) return fallback;
  check(value->is_array() && !value->empty() && value->size() <= 16, ErrorCode::kInvalidModel, label_, ": '", *keys.begin(),
        "' is not a list of integers");
  std::vector<int64_t> out;
  for (const json& item : *value) out.push_back(bounded(item, *keys.begin(), min, max));
  return out;
}

}  // namespace ardiff
