// Rows of the PLE table kept in memory under a byte budget: exact LRU, nothing allocated after creation.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/aligned.h"

namespace nestling {

class PleRowCache {
 public:
  // Holds as many rows of `row_bytes` as fit in `budget_bytes` together with their bookkeeping, at most `table_rows`.
  PleRowCache(uint64_t budget_bytes, uint64_t row_bytes, int64_t table_rows);

  // The bytes of row `id`, now the most recently used one, or nullptr. Valid until the next insert().
  const std::byte* find(int32_t id);
  // Copies a row in; the least recently used row makes room.
  void insert(int32_t id, const std::byte* row);

  int64_t capacity() const { return static_cast<int64_t>(nodes_.size()); }  // rows
  uint64_t memory_bytes() const;                                            // never above the budget

 private:
  struct Node {
    int32_t id = 0;
    int32_t newer = -1;
    int32_t older = -1;
  };

  uint64_t home(int32_t id) const { return (static_cast<uint64_t>(id) * 0x9E37'79B9'7F4A'7C15u) >> shift_; }
  uint64_t locate(int32_t id) const;  // the id's place in table_, or the free place where it would go
  void erase(uint64_t at);
  void unlink(int32_t node);
  void push_newest(int32_t node);
  std::byte* bytes_of(int32_t node) const { return rows_.data() + static_cast<uint64_t>(node) * row_bytes_; }

  uint64_t row_bytes_;
  int shift_ = 63;
  int32_t used_ = 0;
  int32_t newest_ = -1;
  int32_t oldest_ = -1;
  AlignedArray<Node> nodes_;
  AlignedArray<int32_t> table_;  // node + 1, 0 = free; open addressing with linear probing, at most half full
  AlignedBuffer rows_;
};

}  // namespace nestling
