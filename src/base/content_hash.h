// SHA-256 of what a picture or sound was made of: the key of the encode cache, and what tells the media of a prompt apart.
// A cryptographic hash, because one user's picture must never be taken for another's.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace nestling {

using ContentKey = std::array<uint8_t, 32>;

class ContentHash {
 public:
  ContentHash();
  void add(std::span<const std::byte> bytes);
  void add(std::string_view text);  // with its length, so that two texts in a row are not one
  void add(int64_t number);
  // Nothing may be added afterwards.
  ContentKey finish();

 private:
  void compress(const std::byte* block);
  std::array<uint32_t, 8> state_;
  std::array<std::byte, 64> pending_{};
  uint64_t length_ = 0;  // bytes so far
};

// A number for a prompt's media_keys; never 0, which means text.
uint64_t short_key(const ContentKey& key);

}  // namespace nestling
