#include "base/file.h"

#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/check.h"
#include "base/checked.h"

namespace nestling {
namespace {

FileIdentity identity_of(const struct stat& s) {
  return {.device = static_cast<uint64_t>(s.st_dev),
          .inode = static_cast<uint64_t>(s.st_ino),
          .size = static_cast<uint64_t>(s.st_size),
          .modified_ns = s.st_mtim.tv_sec * 1'000'000'000LL + s.st_mtim.tv_nsec};
}

// The signal handler may only touch lock-free memory: a fixed table of the live mappings.
struct GuardedRange {
  std::atomic<uintptr_t> begin{0};
  std::atomic<uintptr_t> end{0};
  std::array<char, 512> path{};
};
std::array<GuardedRange, 64> guarded_ranges;

void guard(const void* begin, uint64_t bytes, const std::string& path) {
  for (GuardedRange& range : guarded_ranges) {
    uintptr_t expected = 0;
    if (!range.begin.compare_exchange_strong(expected, reinterpret_cast<uintptr_t>(begin))) continue;
    const size_t n = std::min(path.size(), range.path.size() - 1);
    std::memcpy(range.path.data(), path.data(), n);
    range.path[n] = '\0';
    range.end = reinterpret_cast<uintptr_t>(begin) + bytes;
    return;
  }
}

void unguard(const void* begin) {
  for (GuardedRange& range : guarded_ranges) {
    if (range.begin != reinterpret_cast<uintptr_t>(begin)) continue;
    range.end = 0;
    range.begin = 0;
    return;
  }
}

void write_text(const char* text) {
  [[maybe_unused]] const ssize_t ignored = ::write(STDERR_FILENO, text, std::strlen(text));
}

void on_sigbus(int signal_number, siginfo_t* info, void*) {
  const auto address = reinterpret_cast<uintptr_t>(info->si_addr);
  for (const GuardedRange& range : guarded_ranges) {
    if (address < range.begin || address >= range.end) continue;
    write_text("nestling: ");
    write_text(range.path.data());
    write_text(": was truncated or became unreadable while in use\n");
    ::_exit(3);
  }
  std::signal(signal_number, SIG_DFL);
  std::raise(signal_number);
}

}  // namespace

Result<File> File::open(const std::filesystem::path& path) {
  File file;
  file.path_ = path;
  file.fd_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file.fd_ < 0) return fail(ErrorCode::kModel, "{}: cannot be opened: {}", path.string(), errno_text(errno));
  struct stat s{};
  if (::fstat(file.fd_, &s) != 0) return fail(ErrorCode::kModel, "{}: {}", path.string(), errno_text(errno));
  if (!S_ISREG(s.st_mode)) return fail(ErrorCode::kModel, "{}: is not a regular file", path.string());
  file.identity_ = identity_of(s);
  return file;
}

File::File(File&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)), identity_(other.identity_), path_(std::move(other.path_)) {}

File& File::operator=(File&& other) noexcept {
  std::swap(fd_, other.fd_);
  std::swap(identity_, other.identity_);
  std::swap(path_, other.path_);
  return *this;
}

File::~File() {
  if (fd_ >= 0) ::close(fd_);
}

Status File::read_at(uint64_t offset, std::span<std::byte> destination) const {
  while (!destination.empty()) {
    const ssize_t n = ::pread(fd_, destination.data(), destination.size(), static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0)
      return fail(ErrorCode::kFailed, "{}: reading {} bytes at {}: {}", path_.string(), destination.size(), offset,
                  errno_text(errno));
    if (n == 0)
      return fail(ErrorCode::kModel, "{}: ends at byte {}, {} more were expected there: the file was truncated",
                  path_.string(), offset, destination.size());
    offset += static_cast<uint64_t>(n);
    destination = destination.subspan(static_cast<size_t>(n));
  }
  return {};
}

Result<FileIdentity> File::current_identity() const {
  struct stat s{};
  if (::fstat(fd_, &s) != 0) return fail(ErrorCode::kFailed, "{}: {}", path_.string(), errno_text(errno));
  return identity_of(s);
}

Result<MappedFile> MappedFile::map(const File& file, uint64_t offset, uint64_t bytes) {
  const auto end = checked_add(offset, bytes);
  if (!end || *end > file.size())
    return fail(ErrorCode::kModel, "{}: {} bytes at {} asked for, the file has {}", file.path().string(), bytes,
                offset, file.size());
  MappedFile mapped;
  if (bytes == 0) return mapped;
  const auto page = static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
  const uint64_t begin = offset / page * page;
  mapped.mapped_ = *end - begin;
  void* base = ::mmap(nullptr, mapped.mapped_, PROT_READ, MAP_SHARED, file.fd(), static_cast<off_t>(begin));
  if (base == MAP_FAILED)
    return fail(ErrorCode::kFailed, "{}: mapping {} bytes: {}", file.path().string(), mapped.mapped_,
                errno_text(errno));
  mapped.base_ = base;
  mapped.data_ = static_cast<const std::byte*>(base) + (offset - begin);
  mapped.size_ = bytes;
  guard(base, mapped.mapped_, file.path().string());
  return mapped;
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : base_(std::exchange(other.base_, nullptr)),
      mapped_(std::exchange(other.mapped_, 0)),
      data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(base_, other.base_);
  std::swap(mapped_, other.mapped_);
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

MappedFile::~MappedFile() { unmap(); }

void MappedFile::unmap() {
  if (base_ == nullptr) return;
  unguard(base_);
  ::munmap(base_, mapped_);
  base_ = nullptr;
}

void MappedFile::prefer_huge_pages() const {
  if (base_ != nullptr) ::madvise(base_, mapped_, MADV_HUGEPAGE);
}

void MappedFile::release_pages() const {
  if (base_ != nullptr) ::madvise(base_, mapped_, MADV_DONTNEED);
}

uint64_t MappedFile::resident_bytes(std::span<const std::byte> part) const {
  if (part.empty()) return 0;
  const auto page = static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
  const auto begin = reinterpret_cast<uintptr_t>(part.data()) / page * page;
  const auto end = static_cast<uintptr_t>(round_up(reinterpret_cast<intptr_t>(part.data() + part.size()), page));
  std::vector<unsigned char> present((end - begin) / page);
  if (::mincore(reinterpret_cast<void*>(begin), end - begin, present.data()) != 0) return 0;
  uint64_t pages = 0;
  for (unsigned char p : present) pages += p & 1;
  return pages * page;
}

void install_mapped_file_guard() {
  struct sigaction action{};
  action.sa_sigaction = on_sigbus;
  action.sa_flags = SA_SIGINFO;
  ::sigaction(SIGBUS, &action, nullptr);
}

Result<AtomicFileWriter> AtomicFileWriter::create(const std::filesystem::path& target) {
  AtomicFileWriter writer;
  writer.target_ = target;
  writer.temporary_ = target;
  writer.temporary_ += fmt::format(".partial-{}", ::getpid());
  writer.fd_ = ::open(writer.temporary_.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (writer.fd_ < 0)
    return fail(ErrorCode::kFailed, "{}: cannot be written: {}", target.string(), errno_text(errno));
  return writer;
}

AtomicFileWriter::AtomicFileWriter(AtomicFileWriter&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)),
      position_(other.position_),
      target_(std::move(other.target_)),
      temporary_(std::move(other.temporary_)),
      dropped_(std::move(other.dropped_)) {}

AtomicFileWriter::~AtomicFileWriter() {
  if (fd_ < 0) return;
  ::close(fd_);
  ::unlink(temporary_.c_str());
}

Status AtomicFileWriter::write(std::span<const std::byte> bytes) {
  NESTLING_TRY_VOID(write_at(position_, bytes));
  position_ += bytes.size();
  return {};
}

Status AtomicFileWriter::write_at(uint64_t offset, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t n = ::pwrite(fd_, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return fail(ErrorCode::kFailed, "{}: writing: {}", target_.string(), errno_text(errno));
    offset += static_cast<uint64_t>(n);
    bytes = bytes.subspan(static_cast<size_t>(n));
  }
  return {};
}

Status AtomicFileWriter::pad_to(uint64_t multiple) {
  static constexpr std::array<std::byte, 4096> zeros{};
  uint64_t missing = (multiple - position_ % multiple) % multiple;
  while (missing > 0) {
    const uint64_t n = std::min<uint64_t>(missing, zeros.size());
    NESTLING_TRY_VOID(write({zeros.data(), static_cast<size_t>(n)}));
    missing -= n;
  }
  return {};
}

Status AtomicFileWriter::commit() {
  if (::fsync(fd_) != 0) return fail(ErrorCode::kFailed, "{}: writing: {}", target_.string(), errno_text(errno));
  for (const auto& [offset, bytes] : dropped_)
    ::posix_fadvise(fd_, static_cast<off_t>(offset), static_cast<off_t>(bytes), POSIX_FADV_DONTNEED);
  if (::rename(temporary_.c_str(), target_.c_str()) != 0)
    return fail(ErrorCode::kFailed, "{}: renaming the finished file: {}", target_.string(), errno_text(errno));
  ::close(fd_);
  fd_ = -1;
  return {};
}

Result<std::string> read_text_file(const std::filesystem::path& path, uint64_t max_bytes) {
  NESTLING_TRY(const File file, File::open(path));
  if (file.size() > max_bytes)
    return fail(ErrorCode::kModel, "{}: {} bytes; at most {} are allowed", path.string(), file.size(), max_bytes);
  std::string text(file.size(), '\0');
  NESTLING_TRY_VOID(file.read_at(0, std::as_writable_bytes(std::span(text))));
  return text;
}

Result<uint64_t> free_disk_bytes(const std::filesystem::path& directory) {
  struct statvfs s{};
  if (::statvfs(directory.c_str(), &s) != 0)
    return fail(ErrorCode::kFailed, "{}: {}", directory.string(), errno_text(errno));
  return static_cast<uint64_t>(s.f_bavail) * s.f_frsize;
}

}  // namespace nestling
