#include "storage/ple_row_cache.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "base/check.h"

namespace nestling {

PleRowCache::PleRowCache(uint64_t budget_bytes, uint64_t row_bytes, int64_t table_rows) : row_bytes_(row_bytes) {
  NESTLING_CHECK_GE(row_bytes, 1u);
  // bit_ceil(2 n) < 4 n places per row, so this is an upper bound of a row's share of the bookkeeping.
  const uint64_t cost = row_bytes + sizeof(Node) + 4 * sizeof(int32_t);
  const uint64_t rows = std::min(budget_bytes / cost, static_cast<uint64_t>(table_rows));
  if (rows == 0) return;
  const uint64_t places = std::bit_ceil(2 * rows);
  shift_ = 64 - std::countr_zero(places);
  nodes_ = AlignedArray<Node>(rows);
  table_ = AlignedArray<int32_t>(places);
  rows_ = AlignedBuffer(rows * row_bytes);
}

const std::byte* PleRowCache::find(int32_t id) {
  if (capacity() == 0) return nullptr;
  const int32_t node = table_[locate(id)] - 1;
  if (node < 0) return nullptr;
  unlink(node);
  push_newest(node);
  return bytes_of(node);
}

void PleRowCache::insert(int32_t id, const std::byte* row) {
  if (capacity() == 0) return;
  if (find(id) != nullptr) return;  // two overlapping requests asked for it
  int32_t node = used_;
  if (used_ < capacity()) {
    ++used_;
  } else {
    node = oldest_;
    erase(locate(nodes_[static_cast<uint64_t>(node)].id));
    unlink(node);
  }
  nodes_[static_cast<uint64_t>(node)].id = id;
  table_[locate(id)] = node + 1;
  push_newest(node);
  std::memcpy(bytes_of(node), row, row_bytes_);
}

uint64_t PleRowCache::memory_bytes() const {
  return nodes_.size() * sizeof(Node) + table_.size() * sizeof(int32_t) + rows_.size();
}

uint64_t PleRowCache::locate(int32_t id) const {
  const uint64_t mask = table_.size() - 1;
  uint64_t at = home(id);
  while (table_[at] != 0 && nodes_[static_cast<uint64_t>(table_[at] - 1)].id != id) at = (at + 1) & mask;
  return at;
}

// Linear probing without tombstones: later entries of the run that may not stand behind a gap move into it.
void PleRowCache::erase(uint64_t at) {
  const uint64_t mask = table_.size() - 1;
  uint64_t gap = at;
  for (uint64_t next = (gap + 1) & mask; table_[next] != 0; next = (next + 1) & mask) {
    const uint64_t from_home = (next - home(nodes_[static_cast<uint64_t>(table_[next] - 1)].id)) & mask;
    if (from_home < ((next - gap) & mask)) continue;
    table_[gap] = table_[next];
    gap = next;
  }
  table_[gap] = 0;
}

void PleRowCache::unlink(int32_t node) {
  const Node& n = nodes_[static_cast<uint64_t>(node)];
  (n.newer < 0 ? newest_ : nodes_[static_cast<uint64_t>(n.newer)].older) = n.older;
  (n.older < 0 ? oldest_ : nodes_[static_cast<uint64_t>(n.older)].newer) = n.newer;
}

void PleRowCache::push_newest(int32_t node) {
  Node& n = nodes_[static_cast<uint64_t>(node)];
  n.newer = -1;
  n.older = newest_;
  (newest_ < 0 ? oldest_ : nodes_[static_cast<uint64_t>(newest_)].newer) = node;
  newest_ = node;
}

}  // namespace nestling
