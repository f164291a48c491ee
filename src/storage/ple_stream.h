// The PLE store that leaves the table on storage (PleMode::kStream).
#pragma once

#include <array>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

#include "storage/ple_reader.h"
#include "storage/ple_row_cache.h"
#include "storage/ple_row_index.h"
#include "storage/ple_store.h"

namespace nestling {

// One client thread calls request(), wait() and row(); any thread may call counters().
//
// A request of a few rows (a decoded token) is started by the client itself with WILLNEED, and wait() copies the row
// out: a thread that it was handed to would have to be scheduled first, milliseconds while every core computes.
// A batch is read in pieces by the I/O threads; wait() takes over the pieces that none of them has begun.
class PleStreamStore final : public PleStore {
 public:
  PleStreamStore(PleReader reader, const PleTable& table, const PleOptions& options, int64_t max_rows);
  ~PleStreamStore() override;

  void request(int ticket, std::span<const int32_t> ids) override;
  Status wait(int ticket) override;
  const std::byte* row(int ticket, int64_t i) const override;
  const PleTable& table() const override { return table_; }
  PleCounters counters() const override;
  uint64_t memory_bytes() const override;

 private:
  struct Ticket {
    explicit Ticket(int64_t max_rows, uint64_t row_bytes)
        : index(max_rows),
          missing(static_cast<uint64_t>(max_rows)),
          rows(static_cast<uint64_t>(max_rows) * row_bytes) {}

    PleRowIndex index;
    AlignedArray<int32_t> missing;  // slots of index.unique() that the cache did not have
    AlignedBuffer rows;             // by slot
    int64_t missing_count = 0;
    bool outstanding = false;  // requested, not yet waited for
    bool batched = false;
    // Under mutex_. Pieces [claimed, end) of `missing` are free to take; all is read when done == end.
    int64_t claimed = 0;
    int64_t done = 0;
    int64_t end = 0;
    Status status;
  };

  void work();
  // Takes a piece of the ticket's batch and reads it; `lock` holds mutex_ before and after, not while reading.
  void read_piece(Ticket& ticket, std::unique_lock<std::mutex>& lock);
  Status read_missing(Ticket& ticket, int64_t begin, int64_t end) const;
  Status finish_direct(Ticket& ticket, bool& stalled);
  Status finish_batch(Ticket& ticket, bool& stalled);
  void abandon(Ticket& ticket);
  int32_t missing_id(const Ticket& ticket, int64_t i) const;
  std::byte* missing_row(const Ticket& ticket, int64_t i) const;
  Ticket& checked_ticket(int ticket);

  const PleTable table_;
  const PleReader reader_;
  const uint64_t row_bytes_;  // distance of rows in memory: the stride up to a cache line
  PleRowCache cache_;
  std::array<Ticket, kTickets> tickets_;
  mutable std::mutex mutex_;
  std::condition_variable work_;      // a batch has pieces to take, or stopping_
  std::condition_variable finished_;  // a piece was read
  PleCounters counters_;
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace nestling
