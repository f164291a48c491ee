// The ids of one request with duplicates removed: every id gets a slot, in order of first appearance.
#pragma once

#include <cstdint>
#include <span>

#include "base/aligned.h"

namespace nestling {

class PleRowIndex {
 public:
  // All memory is reserved here, for requests of at most `max_ids` ids.
  explicit PleRowIndex(int64_t max_ids);

  void assign(std::span<const int32_t> ids);

  int64_t size() const { return size_; }  // ids of the request, duplicates included
  std::span<const int32_t> unique() const { return unique_.span().first(static_cast<size_t>(unique_count_)); }
  // The position in unique() of the i-th id of the request.
  int32_t slot(int64_t i) const { return slots_[static_cast<uint64_t>(i)]; }
  uint64_t memory_bytes() const;

 private:
  // An entry counts only under the stamp of the current request, so nothing is cleared between requests.
  struct Entry {
    uint32_t stamp = 0;
    int32_t slot = 0;
  };

  int shift_;  // the hash is the top bits of id * odd constant
  uint32_t stamp_ = 0;
  int64_t size_ = 0;
  int64_t unique_count_ = 0;
  AlignedArray<int32_t> slots_;   // [max_ids]
  AlignedArray<int32_t> unique_;  // [max_ids]
  AlignedArray<Entry> entries_;   // open addressing, at most half full
};

}  // namespace nestling
