// The per-layer embedding (PLE) table stays on storage: rows are read by position, never mapped. One row per token holds
// the values of all layers: [L * P], layer-major (mechanisms: "PLE caching").
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>

#include "base/error.h"
#include "base/file.h"
#include "tensor/weight.h"

namespace nestling {

enum class PleMode { kStream, kResident };

struct PleCounters {
  uint64_t rows = 0;        // rows asked for, after de-duplication within a request
  uint64_t bytes_read = 0;  // bytes read from storage
  uint64_t cache_hits = 0;  // rows found in the row cache (or resident table)
  uint64_t stalls = 0;      // waits that found a row not there yet
  double stall_ms = 0;      // time spent in those waits
};

// Where the rows of a table lie in the file.
struct PleTable {
  WeightType type = WeightType::kQ8;
  int64_t rows = 0, cols = 0;   // cols = L * P
  uint64_t offset = 0;          // of row 0 in the file
  uint64_t stride = 0;          // rows_stride_bytes(type, cols)
};

struct PleOptions {
  PleMode mode = PleMode::kStream;
  uint64_t cache_bytes = 0;  // budget of the row cache; 0 = none
  int io_threads = 4;        // readers that serve a batch
  // Replaces positional reads in tests (slow or failing storage).
  std::function<Status(uint64_t offset, std::span<std::byte>)> read_for_test;
};

// request() starts reading and returns at once; wait() returns when the rows are there. One request is outstanding at a
// time per ticket; two tickets (this chunk, the next token) may overlap. All memory is reserved by create().
class PleStore {
 public:
  // `max_rows`: most ids of one request (a prompt chunk).
  static Result<std::unique_ptr<PleStore>> create(const File& file, const PleTable& table, const PleOptions& options,
                                                  int64_t max_rows);
  virtual ~PleStore() = default;

  // Asks for the rows of `ids` (0 <= id < rows: the caller maps other ids to 0); duplicates are read once.
  virtual void request(int ticket, std::span<const int32_t> ids) = 0;
  // Blocks until the rows of the ticket's request are there. An error names the file (truncated, replaced, unreadable).
  virtual Status wait(int ticket) = 0;
  // The bytes of the row of the i-th id of the ticket's request, after wait(); valid until the ticket's next request.
  virtual const std::byte* row(int ticket, int64_t i) const = 0;
  virtual const PleTable& table() const = 0;
  virtual PleCounters counters() const = 0;
  virtual uint64_t memory_bytes() const = 0;  // cache, staging and resident table: what the plan counts

  static constexpr int kTickets = 2;
};

}  // namespace nestling
