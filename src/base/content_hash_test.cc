#include "base/content_hash.h"

#include <string>

#include <fmt/format.h>
#include <gtest/gtest.h>

namespace nestling {
namespace {

std::string hex(const ContentKey& key) {
  std::string text;
  for (const uint8_t byte : key) text += fmt::format("{:02x}", byte);
  return text;
}

std::string hash_of(std::string_view text, size_t piece) {
  ContentHash hash;
  for (size_t at = 0; at < text.size(); at += piece) hash.add(std::as_bytes(std::span(text.substr(at, piece))));
  return hex(hash.finish());
}

// FIPS 180-4's examples.
TEST(ContentHash, IsSha256) {
  EXPECT_EQ(hash_of("", 1), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(hash_of("abc", 3), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(hash_of("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 56),
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  EXPECT_EQ(hash_of(std::string(1'000'000, 'a'), 4096),
            "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST(ContentHash, DoesNotDependOnThePieces) {
  for (const size_t length : {1u, 55u, 56u, 63u, 64u, 65u, 119u, 120u, 300u}) {
    const std::string text(length, 'x');
    for (const size_t piece : {1u, 7u, 64u, 100u}) EXPECT_EQ(hash_of(text, piece), hash_of(text, length)) << length;
  }
}

TEST(ContentHash, KeepsPartsApart) {
  ContentHash one, other;
  one.add(std::string_view("ab"));
  one.add(std::string_view("c"));
  other.add(std::string_view("a"));
  other.add(std::string_view("bc"));
  EXPECT_NE(one.finish(), other.finish());
}

TEST(ContentHash, ShortKeysAreNeverZero) {
  EXPECT_EQ(short_key(ContentKey{}), 1u);
  EXPECT_EQ(short_key(ContentKey{0, 0, 0, 0, 0, 0, 1, 2, 3}), 258u);
}

}  // namespace
}  // namespace nestling
