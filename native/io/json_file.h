// JSON configuration files: read whole, typed access with errors that name file and key.
#pragma once

#include <filesystem>
#include <initializer_list>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

namespace ardiff {

// Throws kInvalidModel: missing, over 16 MiB, not JSON, not an object.
nlohmann::json read_json_file(const std::filesystem::path& path);

// One object of a configuration file. A key may have several spellings, tried in order; null counts as absent.
class ConfigReader {
 public:
  ConfigReader(const nlohmann::json& object, std::string label) : object_(object), label_(std::move(label)) {}

  bool has(std::initializer_list<const char*> keys) const { return find(keys) != nullptr; }
  // Integer in [min, max]; throws kInvalidModel when absent or out of range.
  int64_t integer(std::initializer_list<const char*> keys, int64_t min, int64_t max) const;
  int64_t integer_or(std::initializer_list<const char*> keys, int64_t fallback, int64_t min, int64_t max) const;
  double number_or(std::initializer_list<const char*> keys, double fallback) const;
  bool boolean_or(std::initializer_list<const char*> keys, bool fallback) const;
  std::string text_or(std::initializer_list<const char*> keys, const std::string& fallback) const;
  std::vector<int64_t> integers_or(std::initializer_list<const char*> keys, std::vector<int64_t> fallback, int64_t min, int64_t max) const;
  const std::string& label() const { return label_; }

 private:
  const nlohmann::json* find(std::initializer_list<const char*> keys) const;
  int64_t bounded(const nlohmann::json& value, const char* key, int64_t min, int64_t max) const;

  const nlohmann::json& object_;
  std::string label_;
};

}  // namespace ardiff
