// How a row gets from the file into memory without the page cache keeping it: the kernel is told to fetch (WILLNEED),
// the row is copied out by a positional read, and its pages are given back (DONTNEED).
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>

#include "base/error.h"
#include "base/file.h"
#include "storage/ple_store.h"

namespace nestling {

class PleReader {
 public:
  // Opens the file a second time, because access advice belongs to a descriptor and `file` is also mapped. A path that
  // no longer leads to the same content is kModel. The table must lie inside the file (PleStore::create checks).
  static Result<PleReader> open(const File& file, const PleTable& table, const PleOptions& options);

  // Starts fetching a row; returns without waiting for storage.
  void will_need(int32_t id) const;
  // True when the whole row could be copied without waiting for storage. False where the file system cannot tell.
  bool read_if_there(int32_t id, std::byte* row) const;
  // Copies a row, waiting for storage if need be. kModel: the file ends before it.
  Status read(int32_t id, std::byte* row) const;
  // Takes the row's pages out of the page cache.
  void drop(int32_t id) const;
  // Copies the whole table, rows * stride bytes.
  Status read_table(std::byte* destination) const;
  // kModel when size or modification time differ from what they were at open. A file that was replaced by renaming
  // another one over it is not a change: the open descriptor still reads the old content.
  Status check_unchanged() const;

 private:
  Status read_range(uint64_t offset, std::span<std::byte> destination) const;
  void advise(int32_t id, int advice) const;
  uint64_t offset_of(int32_t id) const { return table_.offset + static_cast<uint64_t>(id) * table_.stride; }

  File file_;
  PleTable table_;
  std::function<Status(uint64_t, std::span<std::byte>)> read_for_test_;
  uint64_t page_ = 4096;
};

}  // namespace nestling
