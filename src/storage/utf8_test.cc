#include "storage/utf8.h"

#include <gtest/gtest.h>

namespace nestling {
namespace {

TEST(Utf8, AcceptsEveryLength) {
  EXPECT_TRUE(is_valid_utf8(""));
  EXPECT_TRUE(is_valid_utf8("plain text of more than eight bytes"));
  EXPECT_TRUE(is_valid_utf8("\xc2\x80 \xdf\xbf"));
  EXPECT_TRUE(is_valid_utf8("\xe0\xa0\x80 \xed\x9f\xbf \xee\x80\x80 \xef\xbf\xbf"));
  EXPECT_TRUE(is_valid_utf8("\xf0\x90\x80\x80 \xf4\x8f\xbf\xbf"));
  EXPECT_TRUE(is_valid_utf8(std::string_view("a\0b", 3)));
}

TEST(Utf8, RefusesMalformed) {
  for (const char* text :
       {"\x80", "\xc0\x80", "\xc1\xbf", "\xe0\x9f\xbf", "\xed\xa0\x80", "\xf0\x8f\xbf\xbf", "\xf4\x90\x80\x80",
        "\xf5\x80\x80\x80", "\xff", "\xc3", "\xe2\x82", "\xf0\x9f\x98", "twelve bytes and then \xfe", "\xe2\x28\xa1"}) {
    EXPECT_FALSE(is_valid_utf8(text)) << text;
  }
}

TEST(Utf8, ReplacesOnlyWhatIsMalformed) {
  EXPECT_EQ(replace_invalid_utf8("caf\xe9 \xc3\xa9 \xff"), "caf? \xc3\xa9 ?");
  EXPECT_EQ(replace_invalid_utf8("\xe2\x82"), "??");
}

}  // namespace
}  // namespace nestling
