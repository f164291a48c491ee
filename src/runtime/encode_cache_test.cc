#include "runtime/encode_cache.h"

#include <gtest/gtest.h>

namespace nestling {
namespace {

ContentKey key(uint8_t n) { return {n}; }
EncodedMedia media(size_t floats, float value = 0) {
  return {.rows = std::make_shared<std::vector<float>>(floats, value), .count = 1};
}

TEST(EncodeCache, FindsWhatWasInserted) {
  EncodeCache cache(1000);
  EXPECT_EQ(cache.find(key(1)), nullptr);
  cache.insert(key(1), media(10, 3));
  ASSERT_NE(cache.find(key(1)), nullptr);
  EXPECT_EQ(cache.find(key(1))->rows->front(), 3);
  EXPECT_EQ(cache.find(key(2)), nullptr);
  EXPECT_EQ(cache.bytes(), 40u);
}

TEST(EncodeCache, DropsTheLeastRecentlyUsed) {
  EncodeCache cache(120);
  for (uint8_t i = 1; i <= 3; ++i) cache.insert(key(i), media(10));
  EXPECT_NE(cache.find(key(1)), nullptr);  // 2 is the oldest now
  cache.insert(key(4), media(10));
  EXPECT_EQ(cache.find(key(2)), nullptr);
  for (const uint8_t i : {1, 3, 4}) EXPECT_NE(cache.find(key(i)), nullptr) << int{i};
  EXPECT_EQ(cache.bytes(), 120u);
}

TEST(EncodeCache, NeverHoldsMoreThanItsBytes) {
  EncodeCache cache(100);
  cache.insert(key(1), media(10));
  cache.insert(key(2), media(26));  // larger than the whole
  EXPECT_EQ(cache.find(key(2)), nullptr);
  EXPECT_NE(cache.find(key(1)), nullptr);
  cache.insert(key(3), media(25));
  EXPECT_EQ(cache.size(), 1u);
  EXPECT_EQ(cache.bytes(), 100u);
}

TEST(EncodeCache, RowsOutliveTheirEntry) {
  EncodeCache cache(40);
  cache.insert(key(1), media(10, 7));
  const auto rows = cache.find(key(1))->rows;
  cache.insert(key(2), media(10));
  EXPECT_EQ(cache.find(key(1)), nullptr);
  EXPECT_EQ(rows->at(9), 7);
}

}  // namespace
}  // namespace nestling
