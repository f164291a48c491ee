// What the tests of the PLE store share: a table file whose every byte is known.
#pragma once

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include <unistd.h>

#include <gtest/gtest.h>

#include "storage/ple_store.h"

namespace nestling {

// The byte at a position of a test table: every row and every place in a row differ.
inline std::byte table_byte(int64_t row, uint64_t at) {
  const uint64_t x = (static_cast<uint64_t>(row) * 0x9E37'79B9u + at * 0x85EB'CA6Bu) >> 7;
  return static_cast<std::byte>(x ^ (x >> 9));
}

class PleStoreTest : public testing::Test {
 protected:
  void SetUp() override {
    path_ = std::filesystem::temp_directory_path() /
            ("nestling-ple-" + std::to_string(::getpid()) + "-" +
             testing::UnitTest::GetInstance()->current_test_info()->name());
  }
  void TearDown() override { std::filesystem::remove(path_); }

  // `stride` as tensor/weight.h lays a row out: values, or f16 scales per 32 and codes.
  PleTable table_of(WeightType type, int64_t rows, int64_t cols, uint64_t stride) {
    return {.type = type, .rows = rows, .cols = cols, .offset = kOffset, .stride = stride};
  }

  void write_table(const PleTable& table) {
    std::vector<char> bytes(table.offset + static_cast<uint64_t>(table.rows) * table.stride, 'x');
    for (int64_t row = 0; row < table.rows; ++row)
      for (uint64_t at = 0; at < table.stride; ++at)
        bytes[table.offset + static_cast<uint64_t>(row) * table.stride + at] = static_cast<char>(table_byte(row, at));
    std::ofstream(path_, std::ios::binary).write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  }

  std::unique_ptr<PleStore> open(const PleTable& table, const PleOptions& options, int64_t max_rows = 300) {
    auto file = File::open(path_);
    EXPECT_TRUE(file.has_value());
    auto store = PleStore::create(*file, table, options, max_rows);
    EXPECT_TRUE(store.has_value()) << store.error().message;
    return store ? std::move(*store) : nullptr;
  }

  static void expect_rows(const PleStore& store, int ticket, const std::vector<int32_t>& ids) {
    for (size_t i = 0; i < ids.size(); ++i) {
      const std::byte* row = store.row(ticket, static_cast<int64_t>(i));
      for (uint64_t at = 0; at < store.table().stride; ++at)
        ASSERT_EQ(row[at], table_byte(ids[i], at)) << "id " << ids[i] << " byte " << at;
    }
  }

  static constexpr uint64_t kOffset = 4096 + 48;  // rows need not begin on a page
  std::filesystem::path path_;
  const PleTable small_ = table_of(WeightType::kQ8, 1'000, 96, 112);
};

inline std::vector<int32_t> iota_ids(int32_t begin, int32_t count) {
  std::vector<int32_t> ids;
  for (int32_t id = begin; id < begin + count; ++id) ids.push_back(id);
  return ids;
}

}  // namespace nestling
