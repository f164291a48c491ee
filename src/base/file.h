// Files: positional reads, read-only mappings, and writes that appear whole or not at all.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"

namespace nestling {

// Identity of a file's content as far as the file system tells: what a cached import or a running model is tied to.
struct FileIdentity {
  uint64_t device = 0;
  uint64_t inode = 0;
  uint64_t size = 0;
  int64_t modified_ns = 0;
  bool operator==(const FileIdentity&) const = default;
};

// A regular file open for reading.
class File {
 public:
  static Result<File> open(const std::filesystem::path& path);
  File() = default;
  File(File&& other) noexcept;
  File& operator=(File&& other) noexcept;
  ~File();

  const std::filesystem::path& path() const { return path_; }
  uint64_t size() const { return identity_.size; }  // bytes, when opened
  const FileIdentity& identity() const { return identity_; }
  int fd() const { return fd_; }

  // Reads exactly destination.size() bytes at `offset`; a shorter file is kModel "was truncated".
  Status read_at(uint64_t offset, std::span<std::byte> destination) const;
  // The identity the open file has now (fstat), to notice a file that changed while in use.
  Result<FileIdentity> current_identity() const;

 private:
  int fd_ = -1;
  FileIdentity identity_;
  std::filesystem::path path_;
};

// A read-only shared mapping of a range of a file. A file that shrinks while mapped raises SIGBUS on access: see
// install_mapped_file_guard.
class MappedFile {
 public:
  // `offset` need not be page aligned.
  static Result<MappedFile> map(const File& file, uint64_t offset, uint64_t bytes);
  MappedFile() = default;
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  ~MappedFile();

  std::span<const std::byte> bytes() const { return {data_, static_cast<size_t>(size_)}; }
  // Asks the system for huge pages, for what is read again and again: the page table of four far streams costs a fifth of
  // the bandwidth otherwise. Before the first access; the system may decline.
  void prefer_huge_pages() const;
  // Gives the pages back to the system; the next access reads them from the file again.
  void release_pages() const;
  // Bytes of `part` (a sub-span of bytes()) that are in the page cache now, by mincore.
  uint64_t resident_bytes(std::span<const std::byte> part) const;

 private:
  void unmap();
  void* base_ = nullptr;  // page aligned
  uint64_t mapped_ = 0;
  const std::byte* data_ = nullptr;
  uint64_t size_ = 0;
};

// From here on a SIGBUS inside a MappedFile prints "<path>: was truncated or replaced while in use" and exits with
// status 3 instead of crashing. Other SIGBUS keep their default action.
void install_mapped_file_guard();

// Writes beside the target under a temporary name and renames it when commit() is called; a writer that is destroyed
// before that leaves nothing behind.
class AtomicFileWriter {
 public:
  static Result<AtomicFileWriter> create(const std::filesystem::path& target);
  AtomicFileWriter(AtomicFileWriter&& other) noexcept;
  AtomicFileWriter& operator=(AtomicFileWriter&&) = delete;
  ~AtomicFileWriter();

  uint64_t position() const { return position_; }
  Status write(std::span<const std::byte> bytes);
  Status write_at(uint64_t offset, std::span<const std::byte> bytes);  // does not move position()
  Status pad_to(uint64_t multiple);                                    // zero bytes up to the next multiple
  Status commit();                                                     // fsync and rename
  // commit() will drop [offset, offset + bytes) from the page cache once it is on storage: for data that is read by
  // position and should not be taken for memory in use.
  void drop_from_page_cache(uint64_t offset, uint64_t bytes) { dropped_.emplace_back(offset, bytes); }
  const std::filesystem::path& temporary_path() const { return temporary_; }

 private:
  AtomicFileWriter() = default;
  int fd_ = -1;
  uint64_t position_ = 0;
  std::filesystem::path target_;
  std::filesystem::path temporary_;
  std::vector<std::pair<uint64_t, uint64_t>> dropped_;
};

Result<std::string> read_text_file(const std::filesystem::path& path, uint64_t max_bytes);
// Bytes an unprivileged process may still write on the file system that holds `directory`.
Result<uint64_t> free_disk_bytes(const std::filesystem::path& directory);

}  // namespace nestling
