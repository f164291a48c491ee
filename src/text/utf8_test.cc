#include "text/utf8.h"

#include <gtest/gtest.h>

namespace nestling {
namespace {

std::string decode(std::string_view bytes, size_t step) {
  Utf8Decoder decoder;
  std::string out;
  for (size_t i = 0; i < bytes.size(); i += step) {
    decoder.feed(bytes.substr(i, step), out);
    EXPECT_FALSE(find_invalid_utf8(out));
  }
  decoder.flush(out);
  return out;
}

// Expected values: Python's bytes.decode("utf-8", "replace").
TEST(Utf8, MalformedBytesBecomeReplacementCharacters) {
  const std::pair<std::string_view, std::string_view> cases[] = {
      {"abc", "abc"},
      {"\xC3\xA9\xE2\x82\xAC\xF0\x9F\x90\xA6", "\u00E9\u20AC\U0001F426"},
      {"\x80", "\uFFFD"},
      {"\xC0\xAF", "\uFFFD\uFFFD"},
      {"\xE2\x82", "\uFFFD"},
      {"\xE2\x82"
       "a",
       "\uFFFDa"},
      {"\xE2\xE2\x82\xAC", "\uFFFD\u20AC"},
      {"\xED\xA0\x80", "\uFFFD\uFFFD\uFFFD"},
      {"\xF0\x9F\x90", "\uFFFD"},
      {"\xF0\x80\x80\x80", "\uFFFD\uFFFD\uFFFD\uFFFD"},
      {"\xF4\x90\x80\x80", "\uFFFD\uFFFD\uFFFD\uFFFD"},
      {"\xF5\xFF", "\uFFFD\uFFFD"},
      {"\xE0\x9F\xBF", "\uFFFD\uFFFD\uFFFD"},
      {"a\xF0\x9F\xC3\xA9", "a\uFFFD\u00E9"},
  };
  for (const auto& [bytes, text] : cases) {
    for (const size_t step : {1, 2, 3, 100}) EXPECT_EQ(decode(bytes, step), text);
    EXPECT_EQ(find_invalid_utf8(bytes).has_value(), bytes != text);
  }
}

TEST(Utf8, OffsetOfTheFirstInvalidByte) {
  EXPECT_EQ(find_invalid_utf8(""), std::nullopt);
  EXPECT_EQ(find_invalid_utf8(std::string_view("a\0b", 3)), std::nullopt);
  EXPECT_EQ(find_invalid_utf8("\u00E9\xFFz"), 2);
  EXPECT_EQ(find_invalid_utf8("ab\xE2\x82"), 2);
  EXPECT_EQ(find_invalid_utf8("\xED\x9F\xBF"), std::nullopt);
  EXPECT_EQ(find_invalid_utf8("\xED\xA0\x80"), 0);
  EXPECT_EQ(find_invalid_utf8("\xF4\x8F\xBF\xBF"), std::nullopt);
}

TEST(Utf8, StripsWhatPythonStrips) {
  EXPECT_EQ(strip("  a b\n\t"), "a b");
  EXPECT_EQ(strip("\u00A0\u3000x\u2009\x1F\u0085"), "x");
  EXPECT_EQ(strip("\u200Bx\u2060"), "\u200Bx\u2060");  // zero width: not whitespace in Python
  EXPECT_EQ(strip(" \n\u2028 "), "");
  EXPECT_EQ(strip(""), "");
  EXPECT_EQ(strip("\u00E0"), "\u00E0");  // ends with the byte A0
}

}  // namespace
}  // namespace nestling
