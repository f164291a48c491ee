// UTF-8: validation, decoding piece by piece, and the whitespace Python's str.strip() removes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace nestling {

// Offset of the first byte that is not part of a well-formed UTF-8 character (no overlong forms, no surrogates, at
// most U+10FFFF); nothing when all of `text` is well formed. A character cut off at the end is reported at its start.
std::optional<size_t> find_invalid_utf8(std::string_view text);

// Turns bytes that arrive in arbitrary pieces into whole characters. Malformed bytes become U+FFFD, one for each
// maximal part of a character (the Unicode recommendation, as Python's errors="replace"), whatever way the bytes are
// cut up.
class Utf8Decoder {
 public:
  // Appends to `out` every character that `bytes` completes; an incomplete one at the end is held back.
  void feed(std::string_view bytes, std::string& out);
  // Appends U+FFFD if a character was left incomplete.
  void flush(std::string& out);
  bool holds_back() const { return held_size_ > 0; }

 private:
  void feed_byte(uint8_t byte, std::string& out);
  char held_[4] = {};
  int held_size_ = 0;
  int needed_ = 0;                    // bytes still missing from the held character
  uint8_t low_ = 0x80, high_ = 0xBF;  // range of the next one
};

// `text` (well formed) without leading and trailing whitespace, by the definition of Python's str.strip(), which is
// what
// `| trim` in a chat template means: Unicode whitespace such as U+00A0 and U+3000 too.
std::string_view strip(std::string_view text);

}  // namespace nestling
