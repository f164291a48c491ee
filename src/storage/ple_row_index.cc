#include "storage/ple_row_index.h"

#include <algorithm>
#include <bit>

#include "base/check.h"

namespace nestling {

PleRowIndex::PleRowIndex(int64_t max_ids) {
  NESTLING_CHECK_GE(max_ids, 1);
  const uint64_t entries = std::bit_ceil(2 * static_cast<uint64_t>(max_ids));
  shift_ = 64 - std::countr_zero(entries);
  slots_ = AlignedArray<int32_t>(static_cast<uint64_t>(max_ids));
  unique_ = AlignedArray<int32_t>(static_cast<uint64_t>(max_ids));
  entries_ = AlignedArray<Entry>(entries);
}

void PleRowIndex::assign(std::span<const int32_t> ids) {
  NESTLING_CHECK_LE(ids.size(), slots_.size());
  if (++stamp_ == 0) {  // after 2^32 requests an old stamp could look current
    std::ranges::fill(entries_.span(), Entry{});
    stamp_ = 1;
  }
  size_ = static_cast<int64_t>(ids.size());
  unique_count_ = 0;
  const uint64_t mask = entries_.size() - 1;
  for (size_t i = 0; i < ids.size(); ++i) {
    uint64_t at = (static_cast<uint64_t>(ids[i]) * 0x9E37'79B9'7F4A'7C15u) >> shift_;
    while (entries_[at].stamp == stamp_ && unique_[static_cast<uint64_t>(entries_[at].slot)] != ids[i])
      at = (at + 1) & mask;
    if (entries_[at].stamp != stamp_) {
      unique_[static_cast<uint64_t>(unique_count_)] = ids[i];
      entries_[at] = {stamp_, static_cast<int32_t>(unique_count_++)};
    }
    slots_[i] = entries_[at].slot;
  }
}

uint64_t PleRowIndex::memory_bytes() const {
  return (slots_.size() + unique_.size()) * sizeof(int32_t) + entries_.size() * sizeof(Entry);
}

}  // namespace nestling
