// What pictures and sounds became: kept by the hash of their content, so that a second question about the same one
// costs no encoding. Bounded in bytes; the least recently used one goes first.
#pragma once

#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <vector>

#include "base/content_hash.h"

namespace nestling {

// What was seen or heard, as far as it depends on the content alone.
struct MediaFacts {
  int64_t width = 0, height = 0;  // pixels, of the upright picture
  int64_t encoded_size = 0;       // pixels a side, as the encoder saw it
  double seconds = 0, heard_seconds = 0;
  int64_t source_rate = 0, channels = 0;  // of the sound, before conversion
  int64_t clipped_values = 0;             // beyond [-1, 1]
};

// Soft tokens: rows [count, D] of the text model's width.
struct EncodedMedia {
  std::shared_ptr<const std::vector<float>> rows;
  int64_t count = 0;
  uint64_t key = 0;  // short_key() of the content
  MediaFacts facts;
};

class EncodeCache {
 public:
  explicit EncodeCache(uint64_t capacity = kDefaultBytes) : capacity_(capacity) {}
  static constexpr uint64_t kDefaultBytes = uint64_t{64} << 20;  // 32 pictures of 256 tokens and width 2048

  // Null when it is not there. Valid until the next insert.
  const EncodedMedia* find(const ContentKey& key);
  // One larger than the whole cache is not kept.
  void insert(const ContentKey& key, EncodedMedia media);
  void clear();

  uint64_t bytes() const { return bytes_; }  // of rows
  uint64_t capacity() const { return capacity_; }
  size_t size() const { return index_.size(); }

 private:
  struct Entry {
    ContentKey key;
    EncodedMedia media;
  };
  void drop_oldest();
  uint64_t capacity_, bytes_ = 0;
  std::list<Entry> entries_;  // most recently used first
  std::map<ContentKey, std::list<Entry>::iterator> index_;
};

}  // namespace nestling
