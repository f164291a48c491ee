#include "storage/ple_store.h"

#include <limits>
#include <mutex>
#include <new>
#include <utility>

#include "base/aligned.h"
#include "base/check.h"
#include "base/checked.h"
#include "storage/ple_reader.h"
#include "storage/ple_row_index.h"
#include "storage/ple_stream.h"

namespace nestling {
namespace {

// The whole table in memory (PleMode::kResident): every row is a hit.
class PleResidentStore final : public PleStore {
 public:
  PleResidentStore(AlignedBuffer bytes, const PleTable& table, int64_t max_rows)
      : table_(table), bytes_(std::move(bytes)), tickets_{PleRowIndex(max_rows), PleRowIndex(max_rows)} {
    counters_.bytes_read = bytes_.size();
  }

  void request(int ticket, std::span<const int32_t> ids) override {
    NESTLING_CHECK(ticket >= 0 && ticket < kTickets);
    for (const int32_t id : ids) NESTLING_CHECK(id >= 0 && id < table_.rows);
    PleRowIndex& index = tickets_[ticket];
    index.assign(ids);
    const std::lock_guard lock(mutex_);
    counters_.rows += index.unique().size();
    counters_.cache_hits += index.unique().size();
  }
  Status wait(int) override { return {}; }
  const std::byte* row(int ticket, int64_t i) const override {
    NESTLING_CHECK(ticket >= 0 && ticket < kTickets);
    const PleRowIndex& index = tickets_[ticket];
    NESTLING_CHECK(i >= 0 && i < index.size());
    return bytes_.data() + static_cast<uint64_t>(index.unique()[static_cast<size_t>(index.slot(i))]) * table_.stride;
  }
  const PleTable& table() const override { return table_; }
  PleCounters counters() const override {
    const std::lock_guard lock(mutex_);
    return counters_;
  }
  uint64_t memory_bytes() const override {
    return bytes_.size() + tickets_[0].memory_bytes() + tickets_[1].memory_bytes();
  }

 private:
  const PleTable table_;
  const AlignedBuffer bytes_;
  PleRowIndex tickets_[kTickets];
  mutable std::mutex mutex_;
  PleCounters counters_;
};

Status check_table(const File& file, const PleTable& table) {
  constexpr int64_t kMaxRows = std::numeric_limits<int32_t>::max();
  const std::string path = file.path().string();
  if (table.rows < 1 || table.rows > kMaxRows)
    return fail(ErrorCode::kModel, "{}: {} rows of per-layer embeddings; 1 to {} are allowed", path, table.rows,
                kMaxRows);
  if (table.cols < 1 || table.stride < 1)
    return fail(ErrorCode::kModel, "{}: rows of per-layer embeddings of {} values in {} bytes", path, table.cols,
                table.stride);
  const auto bytes = checked_mul(static_cast<uint64_t>(table.rows), table.stride);
  const auto end = bytes ? checked_add(table.offset, *bytes) : std::nullopt;
  if (!end || *end > file.size())
    return fail(ErrorCode::kModel, "{}: {} rows of {} bytes at {} asked for, the file has {} bytes", path, table.rows,
                table.stride, table.offset, file.size());
  return {};
}

}  // namespace

Result<std::unique_ptr<PleStore>> PleStore::create(const File& file, const PleTable& table, const PleOptions& options,
                                                   int64_t max_rows) {
  NESTLING_CHECK_GE(max_rows, 1);
  NESTLING_CHECK_LE(max_rows, std::numeric_limits<int32_t>::max() / 4);
  NESTLING_CHECK_GE(options.io_threads, 0);
  NESTLING_TRY_VOID(check_table(file, table));
  const auto staging = checked_mul(static_cast<uint64_t>(max_rows), table.stride + 64);
  NESTLING_TRY(PleReader reader, PleReader::open(file, table, options));
  try {
    if (!staging) throw std::bad_alloc();
    if (options.mode == PleMode::kStream)
      return std::make_unique<PleStreamStore>(std::move(reader), table, options, max_rows);
    AlignedBuffer bytes(static_cast<uint64_t>(table.rows) * table.stride);
    NESTLING_TRY_VOID(reader.read_table(bytes.data()));
    return std::make_unique<PleResidentStore>(std::move(bytes), table, max_rows);
  } catch (const std::bad_alloc&) {
    return fail(ErrorCode::kBudget, "{}: no memory for the per-layer embeddings: {} rows of {} bytes, cache {} bytes",
                file.path().string(), options.mode == PleMode::kResident ? table.rows : max_rows, table.stride,
                options.cache_bytes);
  }
}

}  // namespace nestling
