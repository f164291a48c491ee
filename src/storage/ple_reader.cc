#include "storage/ple_reader.h"

#include <algorithm>
#include <utility>

#include <fcntl.h>
#include <sys/uio.h>
#include <unistd.h>

namespace nestling {

Result<PleReader> PleReader::open(const File& file, const PleTable& table, const PleOptions& options) {
  PleReader reader;
  NESTLING_TRY(reader.file_, File::open(file.path()));
  if (reader.file_.identity() != file.identity())
    return fail(ErrorCode::kModel, "{}: was replaced or modified while it was being opened; load the model again",
                file.path().string());
  // Without it a read that misses the page cache fetches the device's whole read-ahead window for one row: up to 8 MiB.
  ::posix_fadvise(reader.file_.fd(), 0, 0, POSIX_FADV_RANDOM);
  reader.table_ = table;
  reader.read_for_test_ = options.read_for_test;
  reader.page_ = static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
  return reader;
}

void PleReader::will_need(int32_t id) const { advise(id, POSIX_FADV_WILLNEED); }
void PleReader::drop(int32_t id) const { advise(id, POSIX_FADV_DONTNEED); }

void PleReader::advise(int32_t id, int advice) const {
  if (read_for_test_) return;
  // Whole pages, or DONTNEED would leave the first and the last one behind.
  const uint64_t begin = offset_of(id) / page_ * page_;
  const uint64_t end = (offset_of(id) + table_.stride + page_ - 1) / page_ * page_;
  ::posix_fadvise(file_.fd(), static_cast<off_t>(begin), static_cast<off_t>(end - begin), advice);
}

bool PleReader::read_if_there(int32_t id, std::byte* row) const {
  if (read_for_test_) return false;
  const iovec part{row, table_.stride};
  const ssize_t n = ::preadv2(file_.fd(), &part, 1, static_cast<off_t>(offset_of(id)), RWF_NOWAIT);
  return n >= 0 && static_cast<uint64_t>(n) == table_.stride;
}

Status PleReader::read(int32_t id, std::byte* row) const { return read_range(offset_of(id), {row, table_.stride}); }

Status PleReader::read_range(uint64_t offset, std::span<std::byte> destination) const {
  if (read_for_test_) return read_for_test_(offset, destination);
  return file_.read_at(offset, destination);
}

Status PleReader::read_table(std::byte* destination) const {
  constexpr uint64_t kStep = uint64_t{8} << 20;
  const uint64_t bytes = static_cast<uint64_t>(table_.rows) * table_.stride;
  for (uint64_t done = 0; done < bytes; done += kStep) {
    const uint64_t n = std::min(kStep, bytes - done);
    const uint64_t ahead = std::min(kStep, bytes - done - n);
    if (ahead > 0)  // a length of 0 would mean the rest of the file
      ::posix_fadvise(file_.fd(), static_cast<off_t>(table_.offset + done + n), static_cast<off_t>(ahead),
                      POSIX_FADV_WILLNEED);
    NESTLING_TRY_VOID(read_range(table_.offset + done, {destination + done, n}));
    // Two copies of the table in memory, one of them in the page cache, would be one too many.
    ::posix_fadvise(file_.fd(), static_cast<off_t>(table_.offset + done), static_cast<off_t>(n), POSIX_FADV_DONTNEED);
  }
  return check_unchanged();
}

Status PleReader::check_unchanged() const {
  NESTLING_TRY(const FileIdentity now, file_.current_identity());
  const FileIdentity& then = file_.identity();
  if (now.size != then.size)
    return fail(ErrorCode::kModel, "{}: has {} bytes and had {} when opened: it was changed while in use",
                file_.path().string(), now.size, then.size);
  if (now.modified_ns != then.modified_ns)
    return fail(ErrorCode::kModel, "{}: was modified while in use (still {} bytes); load the model again",
                file_.path().string(), now.size);
  return {};
}

}  // namespace nestling
