#include "io/mmap_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/error.h"

namespace ardiff {

namespace {

// Closes the descriptor on every way out; the mapping outlives it.
struct FileDescriptor {
  explicit FileDescriptor(int value) : fd(value) {}
  ~FileDescriptor() {
    if (fd >= 0) ::close(fd);
  }
  FileDescriptor(const FileDescriptor&) = delete;
  FileDescriptor& operator=(const FileDescriptor&) = delete;
  int fd;
};

}  // namespace

MmapFile::MmapFile(const std::filesystem::path& path) : path_(path) {
  const FileDescriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  check(file.fd >= 0, ErrorCode::kInvalidModel, path.string(), ": cannot open: ", std::strerror(errno));
  struct stat info {};
  check(::fstat(file.fd, &info) == 0, ErrorCode::kInvalidModel, path.string(), ": cannot stat: ", std::strerror(errno));
  check(S_ISREG(info.st_mode), ErrorCode::kInvalidModel, path.string(), ": not a regular file");
  size_ = static_cast<size_t>(info.st_size);
  if (size_ == 0) return;
  void* mapped = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, file.fd, 0);
  check(mapped != MAP_FAILED, ErrorCode::kInvalidModel, path.string(), ": cannot map ", size_, " bytes: ", std::strerror(errno));
  data_ = static_cast<const std::byte*>(mapped);
}

MmapFile::~MmapFile() {
  if (data_ != nullptr) ::munmap(const_cast<std::byte*>(data_), size_);
}

}  // namespace ardiff
