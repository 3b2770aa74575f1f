// A file mapped read-only for the lifetime of the object.
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>

namespace ardiff {

class MmapFile {
 public:
  // Throws kInvalidModel with the path and the system's reason. An empty file maps to an empty span.
  explicit MmapFile(const std::filesystem::path& path);
  ~MmapFile();
  MmapFile(const MmapFile&) = delete;
  MmapFile& operator=(const MmapFile&) = delete;

  std::span<const std::byte> bytes() const { return {data_, size_}; }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
  const std::byte* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace ardiff
