#include "text/utf8.h"

namespace nestling {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD

// What may follow a first byte: how many bytes, and the range of the first of them. needed = 0 for ASCII, -1 for a byte
// that starts no character.
struct Lead {
  int needed;
  uint8_t low, high;
};

constexpr Lead lead_of(uint8_t byte) {
  if (byte < 0x80) return {0, 0, 0};
  if (byte < 0xC2) return {-1, 0, 0};
  if (byte < 0xE0) return {1, 0x80, 0xBF};
  if (byte == 0xE0) return {2, 0xA0, 0xBF};
  if (byte == 0xED) return {2, 0x80, 0x9F};
  if (byte < 0xF0) return {2, 0x80, 0xBF};
  if (byte == 0xF0) return {3, 0x90, 0xBF};
  if (byte < 0xF4) return {3, 0x80, 0xBF};
  if (byte == 0xF4) return {3, 0x80, 0x8F};
  return {-1, 0, 0};
}

// str.isspace() of Python 3, which str.strip() uses.
constexpr std::string_view kSpaces[] = {"\t",     "\n",     "\v",     "\f",     "\r",     "\x1C",   "\x1D",   "\x1E",
                                        "\x1F",   " ",      "\u0085", "\u00A0", "\u1680", "\u2000", "\u2001", "\u2002",
                                        "\u2003", "\u2004", "\u2005", "\u2006", "\u2007", "\u2008", "\u2009", "\u200A",
                                        "\u2028", "\u2029", "\u202F", "\u205F", "\u3000"};

}  // namespace

std::optional<size_t> find_invalid_utf8(std::string_view text) {
  for (size_t i = 0; i < text.size();) {
    auto [needed, low, high] = lead_of(static_cast<uint8_t>(text[i]));
    if (needed < 0 || static_cast<size_t>(needed) >= text.size() - i) return i;
    for (int k = 1; k <= needed; ++k) {
      const auto byte = static_cast<uint8_t>(text[i + k]);
      if (byte < low || byte > high) return i;
      low = 0x80, high = 0xBF;
    }
    i += needed + 1;
  }
  return std::nullopt;
}

void Utf8Decoder::feed_byte(uint8_t byte, std::string& out) {
  if (held_size_ > 0) {
    if (byte >= low_ && byte <= high_) {
      held_[held_size_++] = static_cast<char>(byte);
      low_ = 0x80, high_ = 0xBF;
      if (--needed_ == 0) {
        out.append(held_, held_size_);
        held_size_ = 0;
      }
      return;
    }
    flush(out);
  }
  const Lead lead = lead_of(byte);
  if (lead.needed == 0) {
    out.push_back(static_cast<char>(byte));
  } else if (lead.needed < 0) {
    out.append(kReplacement);
  } else {
    held_[0] = static_cast<char>(byte);
    held_size_ = 1;
    needed_ = lead.needed, low_ = lead.low, high_ = lead.high;
  }
}

void Utf8Decoder::feed(std::string_view bytes, std::string& out) {
  for (const char c : bytes) feed_byte(static_cast<uint8_t>(c), out);
}

void Utf8Decoder::flush(std::string& out) {
  if (held_size_ > 0) out.append(kReplacement);
  held_size_ = 0;
}

std::string_view strip(std::string_view text) {
  const auto strip_once = [&text] {
    for (const std::string_view space : kSpaces) {
      if (text.starts_with(space)) {
        text.remove_prefix(space.size());
        return true;
      }
      if (text.ends_with(space)) {
        text.remove_suffix(space.size());
        return true;
      }
    }
    return false;
  };
  while (!text.empty() && strip_once()) {
  }
  return text;
}

}  // namespace nestling
