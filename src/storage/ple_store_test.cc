#include <cstring>
#include <filesystem>
#include <random>
#include <vector>

#include <fcntl.h>
#include <unistd.h>

#include "base/file.h"
#include "storage/ple_store_fixture.h"

namespace nestling {
namespace {

std::vector<int32_t> random_ids(std::mt19937& random, int64_t rows, size_t count) {
  std::vector<int32_t> ids(count);
  for (int32_t& id : ids) {
    id = static_cast<int32_t>(random() % static_cast<uint64_t>(rows));
    if (random() % 3 == 0) id = static_cast<int32_t>(random() % 8);  // some ids come often, as in text
  }
  return ids;
}

TEST_F(PleStoreTest, RowsAreTheSameFromStorageCacheAndMemory) {
  const PleTable tables[] = {
      table_of(WeightType::kF32, 400, 96, 384), table_of(WeightType::kBF16, 400, 96, 192),
      table_of(WeightType::kQ8, 400, 96, 112),  table_of(WeightType::kQ6, 400, 96, 80),
      table_of(WeightType::kQ4, 400, 96, 64),   table_of(WeightType::kQ8, 400, 7'680, 8'160),
  };
  for (const PleTable& table : tables) {
    write_table(table);
    const uint64_t row = table.stride + 28;
    std::vector<PleOptions> variants{{.mode = PleMode::kResident}};
    for (uint64_t cache : {uint64_t{0}, row, 3 * row, 50 * row, 1'000 * row})
      for (int threads : {0, 1, 4}) variants.push_back({.cache_bytes = cache, .io_threads = threads});
    for (const PleOptions& options : variants) {
      auto store = open(table, options);
      std::mt19937 random(11);
      for (int step = 0; step < 25; ++step) {
        const auto chunk = random_ids(random, table.rows, random() % 300);
        const auto next = random_ids(random, table.rows, 1 + random() % 2);
        store->request(0, chunk);
        store->request(1, next);
        ASSERT_TRUE(store->wait(0).has_value());
        ASSERT_TRUE(store->wait(1).has_value());
        expect_rows(*store, 0, chunk);
        expect_rows(*store, 1, next);
      }
    }
  }
}

TEST_F(PleStoreTest, DuplicatesAreReadOnce) {
  write_table(small_);
  auto store = open(small_, {});
  const std::vector<int32_t> ids{5, 5, 7, 5, 7};
  store->request(0, ids);
  ASSERT_TRUE(store->wait(0).has_value());
  expect_rows(*store, 0, ids);
  EXPECT_EQ(store->counters().rows, 2u);
  EXPECT_EQ(store->counters().bytes_read, 2 * small_.stride);
  EXPECT_EQ(store->counters().cache_hits, 0u);
}

TEST_F(PleStoreTest, CachedRowsNeitherReadNorStall) {
  write_table(small_);
  auto store = open(small_, {.cache_bytes = 1 << 20});
  std::vector<int32_t> ids(200);
  for (size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<int32_t>(i * 3);
  store->request(0, ids);
  ASSERT_TRUE(store->wait(0).has_value());
  const PleCounters first = store->counters();
  EXPECT_EQ(first.bytes_read, 200 * small_.stride);
  for (int repeat = 0; repeat < 10; ++repeat) {
    store->request(repeat % 2, ids);
    ASSERT_TRUE(store->wait(repeat % 2).has_value());
    expect_rows(*store, repeat % 2, ids);
  }
  const PleCounters then = store->counters();
  EXPECT_EQ(then.bytes_read, first.bytes_read);
  EXPECT_EQ(then.cache_hits, 2'000u);
  EXPECT_EQ(then.stalls, first.stalls);
  EXPECT_EQ(then.stall_ms, first.stall_ms);
}

TEST_F(PleStoreTest, ResidentRowsAreAllHits) {
  write_table(small_);
  auto store = open(small_, {.mode = PleMode::kResident});
  store->request(0, std::vector<int32_t>{1, 2, 2});
  ASSERT_TRUE(store->wait(0).has_value());
  const PleCounters counters = store->counters();
  EXPECT_EQ(counters.rows, 2u);
  EXPECT_EQ(counters.cache_hits, 2u);
  EXPECT_EQ(counters.stalls, 0u);
  EXPECT_EQ(counters.bytes_read, 1'000 * small_.stride);
  EXPECT_GE(store->memory_bytes(), 1'000 * small_.stride);
}

TEST_F(PleStoreTest, MemoryIsStagingAndCacheNotTheTable) {
  const PleTable table = table_of(WeightType::kQ8, 20'000, 96, 112);
  write_table(table);
  const uint64_t without = open(table, {}, 64)->memory_bytes();
  EXPECT_LE(without, 2 * 64 * (128 + 4 * 12) + 8'192u);
  const uint64_t cache = 100'000;
  const uint64_t with = open(table, {.cache_bytes = cache}, 64)->memory_bytes();
  EXPECT_LE(with, without + cache);
  EXPECT_GE(with, without + cache * 9 / 10);
}

// Of the shape of E4B: the element index passes 2^31 (row 239,675) and byte offsets pass 2^32. The file is sparse.
TEST_F(PleStoreTest, ReadsRowsBeyond2To31Elements) {
  for (uint64_t stride : {uint64_t{9'520}, uint64_t{17'920}, uint64_t{35'840}}) {
    const PleTable table = table_of(WeightType::kQ8, 262'144, 8'960, stride);
    const std::vector<int32_t> ids{0, 1, 120'000, 239'674, 239'675, 239'676, 262'142, 262'143};
    const int fd = ::open(path_.c_str(), O_RDWR | O_CREAT | O_TRUNC, 0600);
    ASSERT_GE(fd, 0);
    if (::ftruncate(fd, static_cast<off_t>(kOffset + 262'144 * stride)) != 0) {
      ::close(fd);
      GTEST_SKIP() << "the temporary directory has no files of " << 262'144 * stride << " bytes";
    }
    std::vector<std::byte> row(stride);
    for (int32_t id : ids) {
      for (uint64_t at = 0; at < stride; ++at) row[at] = table_byte(id, at);
      const auto offset = static_cast<off_t>(kOffset + static_cast<uint64_t>(id) * stride);
      ASSERT_EQ(::pwrite(fd, row.data(), stride, offset), static_cast<ssize_t>(stride));
    }
    ::close(fd);
    auto store = open(table, {});
    store->request(0, ids);
    ASSERT_TRUE(store->wait(0).has_value());
    expect_rows(*store, 0, ids);
    std::vector<int32_t> batch(ids);
    for (int32_t id = 200'000; id < 200'100; ++id) batch.push_back(id);  // holes: zeros
    store->request(1, batch);
    ASSERT_TRUE(store->wait(1).has_value());
    expect_rows(*store, 0, ids);
    EXPECT_EQ(store->row(1, 50)[7], std::byte{0});
    EXPECT_EQ(std::memcmp(store->row(1, 7), store->row(0, 7), stride), 0);
  }
}

// Pages of `path_` that the page cache holds.
uint64_t cached_pages(const std::filesystem::path& path) {
  const File file = *File::open(path);
  const MappedFile mapped = *MappedFile::map(file, 0, file.size());
  return mapped.resident_bytes(mapped.bytes()) / 4096;
}

TEST_F(PleStoreTest, ThePageCacheDoesNotKeepTheTable) {
  const PleTable table = table_of(WeightType::kQ8, 1'000, 7'680, 8'160);
  write_table(table);
  const int fd = ::open(path_.c_str(), O_RDWR);
  ::fsync(fd);  // DONTNEED leaves dirty pages alone
  ::posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
  ::close(fd);
  if (cached_pages(path_) > 0) GTEST_SKIP() << "the file system of " << path_ << " keeps its pages (tmpfs)";
  for (const PleOptions& options : {PleOptions{.mode = PleMode::kResident}, PleOptions{}}) {
    auto store = open(table, options);
    for (int32_t begin = 0; begin + 300 <= 1'000; begin += 100) {
      store->request(0, iota_ids(begin, 300));
      ASSERT_TRUE(store->wait(0).has_value());
      store->request(1, std::vector<int32_t>{begin});
      ASSERT_TRUE(store->wait(1).has_value());
    }
    store->request(1, std::vector<int32_t>{950});
    store->request(1, std::vector<int32_t>{951});
    ASSERT_TRUE(store->wait(1).has_value());
    EXPECT_EQ(store->counters().rows, 8u * 301 + 2);
    // Neighbouring rows share pages and readers run beside each other, so a few may be fetched again and stay.
    EXPECT_LE(cached_pages(path_), 20u) << "of " << table.rows * 2;
  }
}

}  // namespace
}  // namespace nestling
