#include "storage/ple_stream.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <system_error>
#include <utility>

#include "base/check.h"
#include "base/checked.h"
#include "base/log.h"

namespace nestling {
namespace {

// Requests of at most this many unread rows are started by the caller: about 17 us of system call each.
constexpr int64_t kDirectRows = 8;
// Rows that one reader has in flight at a time: enough to fill the queue of a solid-state disk.
constexpr int64_t kPieceRows = 64;

constexpr uint64_t kCacheLine = 64;

}  // namespace

PleStreamStore::PleStreamStore(PleReader reader, const PleTable& table, const PleOptions& options, int64_t max_rows)
    : table_(table),
      reader_(std::move(reader)),
      row_bytes_(static_cast<uint64_t>(round_up(static_cast<int64_t>(table.stride), kCacheLine))),
      cache_(options.cache_bytes, table.stride, table.rows),
      tickets_{Ticket(max_rows, row_bytes_), Ticket(max_rows, row_bytes_)} {
  threads_.reserve(static_cast<size_t>(options.io_threads));
  try {
    for (int i = 0; i < options.io_threads; ++i) threads_.emplace_back([this] { work(); });
  } catch (const std::system_error& error) {
    spdlog::warn("per-layer embeddings: {} of {} reader threads started: {}", threads_.size(), options.io_threads,
                 error.what());  // wait() reads what they would have read
  }
}

PleStreamStore::~PleStreamStore() {
  for (Ticket& ticket : tickets_) abandon(ticket);
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  work_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void PleStreamStore::request(int ticket, std::span<const int32_t> ids) {
  Ticket& t = checked_ticket(ticket);
  for (const int32_t id : ids) NESTLING_CHECK(id >= 0 && id < table_.rows);
  abandon(t);
  t.index.assign(ids);
  t.missing_count = 0;
  const std::span<const int32_t> unique = t.index.unique();
  for (size_t slot = 0; slot < unique.size(); ++slot) {
    if (const std::byte* cached = cache_.find(unique[slot]))
      std::memcpy(t.rows.data() + slot * row_bytes_, cached, table_.stride);
    else
      t.missing[static_cast<uint64_t>(t.missing_count++)] = static_cast<int32_t>(slot);
  }
  t.outstanding = true;
  t.batched = t.missing_count > kDirectRows;
  if (!t.batched)
    for (int64_t i = 0; i < t.missing_count; ++i) reader_.will_need(missing_id(t, i));
  {
    const std::lock_guard lock(mutex_);
    counters_.rows += unique.size();
    counters_.cache_hits += unique.size() - static_cast<uint64_t>(t.missing_count);
    t.claimed = t.done = 0;
    t.end = t.batched ? t.missing_count : 0;
    t.status = {};
  }
  if (t.batched) work_.notify_all();
}

Status PleStreamStore::wait(int ticket) {
  Ticket& t = checked_ticket(ticket);
  if (!t.outstanding) return t.status;
  const auto start = std::chrono::steady_clock::now();
  bool stalled = false;
  Status status = t.batched ? finish_batch(t, stalled) : finish_direct(t, stalled);
  t.outstanding = false;
  // After the reads: a change before or during them is seen. Cached rows of a changed file would be wrong just as well.
  if (status) status = reader_.check_unchanged();
  if (status)
    for (int64_t i = 0; i < t.missing_count; ++i) cache_.insert(missing_id(t, i), missing_row(t, i));
  const std::chrono::duration<double, std::milli> waited = std::chrono::steady_clock::now() - start;
  const std::lock_guard lock(mutex_);
  if (stalled) {
    ++counters_.stalls;
    counters_.stall_ms += waited.count();
  }
  t.status = status;
  return status;
}

const std::byte* PleStreamStore::row(int ticket, int64_t i) const {
  NESTLING_CHECK(ticket >= 0 && ticket < kTickets);
  const Ticket& t = tickets_[static_cast<size_t>(ticket)];
  NESTLING_CHECK(!t.outstanding);
  NESTLING_CHECK(i >= 0 && i < t.index.size());
  return t.rows.data() + static_cast<uint64_t>(t.index.slot(i)) * row_bytes_;
}

PleCounters PleStreamStore::counters() const {
  const std::lock_guard lock(mutex_);
  return counters_;
}

uint64_t PleStreamStore::memory_bytes() const {
  uint64_t bytes = cache_.memory_bytes();
  for (const Ticket& t : tickets_)
    bytes += t.rows.size() + t.missing.size() * sizeof(int32_t) + t.index.memory_bytes();
  return bytes;
}

void PleStreamStore::work() {
  std::unique_lock lock(mutex_);
  const auto has_piece = [](const Ticket& t) { return t.claimed < t.end; };
  while (true) {
    work_.wait(lock, [&] { return stopping_ || std::ranges::any_of(tickets_, has_piece); });
    if (stopping_) return;
    read_piece(*std::ranges::find_if(tickets_, has_piece), lock);
  }
}

void PleStreamStore::read_piece(Ticket& t, std::unique_lock<std::mutex>& lock) {
  const int64_t begin = t.claimed;
  const int64_t end = std::min(begin + kPieceRows, t.end);
  t.claimed = end;
  lock.unlock();
  Status status = read_missing(t, begin, end);
  lock.lock();
  if (status)
    counters_.bytes_read += static_cast<uint64_t>(end - begin) * table_.stride;
  else if (t.status)
    t.status = std::move(status);
  t.done += end - begin;
  finished_.notify_all();
}

Status PleStreamStore::read_missing(Ticket& t, int64_t begin, int64_t end) const {
  for (int64_t i = begin; i < end; ++i) reader_.will_need(missing_id(t, i));
  Status status;
  for (int64_t i = begin; i < end; ++i) {
    if (status) status = reader_.read(missing_id(t, i), missing_row(t, i));
    reader_.drop(missing_id(t, i));
  }
  return status;
}

Status PleStreamStore::finish_direct(Ticket& t, bool& stalled) {
  Status status;
  int64_t read = 0;
  for (int64_t i = 0; i < t.missing_count; ++i) {
    if (status && !reader_.read_if_there(missing_id(t, i), missing_row(t, i))) {
      stalled = true;
      status = reader_.read(missing_id(t, i), missing_row(t, i));
    }
    if (status) ++read;
    reader_.drop(missing_id(t, i));
  }
  const std::lock_guard lock(mutex_);
  counters_.bytes_read += static_cast<uint64_t>(read) * table_.stride;
  return status;
}

Status PleStreamStore::finish_batch(Ticket& t, bool& stalled) {
  std::unique_lock lock(mutex_);
  stalled = t.done < t.end;
  while (t.claimed < t.end) read_piece(t, lock);
  finished_.wait(lock, [&] { return t.done == t.end; });
  return t.status;
}

// A request that nobody waited for (the generation ended): pieces not begun are left out, the others are waited for
// because they write into the ticket's rows, and pages fetched ahead are given back.
void PleStreamStore::abandon(Ticket& t) {
  if (!t.outstanding) return;
  t.outstanding = false;
  if (!t.batched)
    for (int64_t i = 0; i < t.missing_count; ++i) reader_.drop(missing_id(t, i));
  std::unique_lock lock(mutex_);
  t.end = t.claimed;
  finished_.wait(lock, [&] { return t.done == t.end; });
}

int32_t PleStreamStore::missing_id(const Ticket& t, int64_t i) const {
  return t.index.unique()[static_cast<size_t>(t.missing[static_cast<uint64_t>(i)])];
}

std::byte* PleStreamStore::missing_row(const Ticket& t, int64_t i) const {
  return t.rows.data() + static_cast<uint64_t>(t.missing[static_cast<uint64_t>(i)]) * row_bytes_;
}

PleStreamStore::Ticket& PleStreamStore::checked_ticket(int ticket) {
  NESTLING_CHECK(ticket >= 0 && ticket < kTickets);
  return tickets_[static_cast<size_t>(ticket)];
}

}  // namespace nestling
