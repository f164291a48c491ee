#include "runtime/encode_cache.h"

#include <utility>

namespace nestling {
namespace {

uint64_t bytes_of(const EncodedMedia& media) { return media.rows->size() * sizeof(float); }

}  // namespace

const EncodedMedia* EncodeCache::find(const ContentKey& key) {
  const auto found = index_.find(key);
  if (found == index_.end()) return nullptr;
  entries_.splice(entries_.begin(), entries_, found->second);
  return &found->second->media;
}

void EncodeCache::insert(const ContentKey& key, EncodedMedia media) {
  const uint64_t bytes = bytes_of(media);
  if (bytes > capacity_ || index_.contains(key)) return;
  while (bytes_ + bytes > capacity_) drop_oldest();
  entries_.push_front({key, std::move(media)});
  index_.emplace(key, entries_.begin());
  bytes_ += bytes;
}

void EncodeCache::drop_oldest() {
  bytes_ -= bytes_of(entries_.back().media);
  index_.erase(entries_.back().key);
  entries_.pop_back();
}

void EncodeCache::clear() {
  entries_.clear();
  index_.clear();
  bytes_ = 0;
}

}  // namespace nestling
