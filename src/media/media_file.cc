#include "media/media_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

namespace nestling {
namespace {

constexpr uint64_t kChunk = 1 << 20;

struct Descriptor {
  int fd;
  ~Descriptor() {
    if (fd >= 0) ::close(fd);
  }
};

}  // namespace

Result<std::vector<std::byte>> read_media_file(const std::filesystem::path& path, uint64_t max_bytes) {
  const Descriptor file{::open(path.c_str(), O_RDONLY | O_CLOEXEC)};
  struct stat status {};
  if (file.fd < 0 || ::fstat(file.fd, &status) != 0)
    return fail(ErrorCode::kFailed, "{}: {}", path.string(), errno_text(errno));
  if (S_ISREG(status.st_mode) && static_cast<uint64_t>(status.st_size) > max_bytes)
    return fail(ErrorCode::kFailed, "{}: {} bytes; at most {} are allowed", path.string(), status.st_size, max_bytes);

  std::vector<std::byte> bytes;
  uint64_t used = 0;
  while (true) {
    // One byte more than allowed is asked for, so that a file that is too long shows.
    bytes.resize(std::min(used + kChunk, max_bytes + 1));
    const ssize_t n = ::read(file.fd, bytes.data() + used, bytes.size() - used);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return fail(ErrorCode::kFailed, "{}: {}", path.string(), errno_text(errno));
    if (n == 0) break;
    used += static_cast<uint64_t>(n);
    if (used > max_bytes)
      return fail(ErrorCode::kFailed, "{}: more than {} bytes, the most that is allowed", path.string(), max_bytes);
  }
  bytes.resize(used);
  return bytes;
}

}  // namespace nestling
