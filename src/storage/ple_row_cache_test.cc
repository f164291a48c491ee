#include "storage/ple_row_cache.h"

#include <algorithm>
#include <cstring>
#include <list>
#include <random>
#include <vector>

#include <gtest/gtest.h>

namespace nestling {
namespace {

std::vector<std::byte> row_of(int32_t id, uint64_t bytes) {
  std::vector<std::byte> row(bytes, static_cast<std::byte>(id * 31 + 7));
  std::memcpy(row.data(), &id, sizeof(id));
  return row;
}

TEST(PleRowCache, HoldsNothingWithoutBudgetForOneRow) {
  for (uint64_t budget : {0u, 1u, 63u}) {
    PleRowCache cache(budget, 64, 100);
    EXPECT_EQ(cache.capacity(), 0);
    EXPECT_EQ(cache.memory_bytes(), 0u);
    cache.insert(3, row_of(3, 64).data());
    EXPECT_EQ(cache.find(3), nullptr);
  }
}

TEST(PleRowCache, StaysWithinItsBudgetAndUsesIt) {
  for (uint64_t budget : {200u, 1'000u, 99'999u, 1'000'000u}) {
    const PleRowCache cache(budget, 100, 1 << 20);
    EXPECT_LE(cache.memory_bytes(), budget);
    EXPECT_GE(static_cast<uint64_t>(cache.capacity()) * 128, budget - 128);
  }
  EXPECT_EQ(PleRowCache(1 << 30, 100, 17).capacity(), 17) << "never more than the table has";
}

TEST(PleRowCache, EvictsTheLeastRecentlyUsed) {
  PleRowCache cache(3 * (16 + 28), 16, 100);
  ASSERT_EQ(cache.capacity(), 3);
  for (int32_t id : {1, 2, 3}) cache.insert(id, row_of(id, 16).data());
  EXPECT_NE(cache.find(1), nullptr);
  cache.insert(4, row_of(4, 16).data());
  EXPECT_EQ(cache.find(2), nullptr);
  for (int32_t id : {1, 3, 4}) EXPECT_NE(cache.find(id), nullptr) << id;
}

// Against a list that does the same thing slowly: content, order of eviction and the hash table's deletions.
TEST(PleRowCache, AgreesWithAModelOverRandomUse) {
  constexpr uint64_t kBytes = 24;
  for (int64_t capacity : {1, 2, 7, 64}) {
    PleRowCache cache(static_cast<uint64_t>(capacity) * (kBytes + 28), kBytes, 1 << 20);
    ASSERT_EQ(cache.capacity(), capacity);
    std::list<int32_t> model;  // newest first
    std::mt19937 random(static_cast<uint32_t>(capacity));
    for (int step = 0; step < 20'000; ++step) {
      const auto id = static_cast<int32_t>(random() % (3 * static_cast<uint32_t>(capacity)));
      const auto known = std::ranges::find(model, id);
      const std::byte* found = cache.find(id);
      ASSERT_EQ(found != nullptr, known != model.end()) << "capacity " << capacity << " step " << step;
      if (found != nullptr) {
        ASSERT_EQ(std::memcmp(found, row_of(id, kBytes).data(), kBytes), 0);
        model.splice(model.begin(), model, known);
      } else {
        cache.insert(id, row_of(id, kBytes).data());
        model.push_front(id);
        if (static_cast<int64_t>(model.size()) > capacity) model.pop_back();
      }
    }
  }
}

TEST(PleRowCache, InsertingAKnownRowOnlyRefreshesIt) {
  PleRowCache cache(2 * (16 + 28), 16, 100);
  cache.insert(1, row_of(1, 16).data());
  cache.insert(2, row_of(2, 16).data());
  cache.insert(1, row_of(1, 16).data());
  cache.insert(3, row_of(3, 16).data());
  EXPECT_NE(cache.find(1), nullptr);
  EXPECT_EQ(cache.find(2), nullptr);
}

}  // namespace
}  // namespace nestling
