// The PLE store when the file or the storage misbehaves.
#include <atomic>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <future>
#include <memory>
#include <thread>
#include <vector>

#include <gmock/gmock.h>

#include "base/file.h"
#include "storage/ple_store_fixture.h"

namespace nestling {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using PleStoreFailureTest = PleStoreTest;

TEST_F(PleStoreFailureTest, ATruncatedFileIsAnErrorThatNamesIt) {
  for (int32_t count : {1, 200}) {
    write_table(small_);
    auto store = open(small_, {.cache_bytes = 1 << 20});
    store->request(0, iota_ids(0, count));
    ASSERT_TRUE(store->wait(0).has_value());
    std::filesystem::resize_file(path_, kOffset + 500 * small_.stride);
    for (int32_t begin : {600, 300, 0}) {  // gone, still there, and cached
      store->request(1, iota_ids(begin, count));
      const Status status = store->wait(1);
      ASSERT_FALSE(status.has_value()) << begin;
      EXPECT_EQ(status.error().code, ErrorCode::kModel);
      EXPECT_THAT(status.error().message, HasSubstr(path_.string()));
      EXPECT_FALSE(store->wait(1).has_value()) << "the error stays until the next request";
    }
  }
}

TEST_F(PleStoreFailureTest, AFileModifiedInPlaceIsAnError) {
  write_table(small_);
  auto store = open(small_, {});
  std::this_thread::sleep_for(std::chrono::milliseconds(20));  // one tick of the file system's clock
  {
    std::fstream file(path_, std::ios::binary | std::ios::in | std::ios::out);
    file.seekp(static_cast<std::streamoff>(kOffset));
    file.write("other", 5);
  }
  store->request(0, std::vector<int32_t>{0});
  const Status status = store->wait(0);
  ASSERT_FALSE(status.has_value());
  EXPECT_EQ(status.error().code, ErrorCode::kModel);
  EXPECT_THAT(status.error().message, AllOf(HasSubstr(path_.string()), HasSubstr("modified")));
}

TEST_F(PleStoreFailureTest, AFileReplacedByRenameOrRemovedIsReadToTheEnd) {
  write_table(small_);
  auto store = open(small_, {});
  const std::filesystem::path other = path_.string() + "-other";
  std::ofstream(other) << "another model";
  std::filesystem::rename(other, path_);
  store->request(0, iota_ids(100, 100));
  ASSERT_TRUE(store->wait(0).has_value());
  expect_rows(*store, 0, iota_ids(100, 100));
  std::filesystem::remove(path_);
  store->request(0, std::vector<int32_t>{9});
  ASSERT_TRUE(store->wait(0).has_value());
  expect_rows(*store, 0, {9});
}

TEST_F(PleStoreFailureTest, AFileReplacedBeforeCreateIsAnError) {
  write_table(small_);
  const File file = *File::open(path_);
  std::filesystem::rename(path_, path_.string() + "-old");
  write_table(small_);
  const auto store = PleStore::create(file, small_, {}, 4);
  std::filesystem::remove(path_.string() + "-old");
  ASSERT_FALSE(store.has_value());
  EXPECT_THAT(store.error().message, AllOf(HasSubstr(path_.string()), HasSubstr("replaced")));
}

TEST_F(PleStoreFailureTest, TablesThatDoNotFitTheFileAreRefused) {
  write_table(small_);
  const File file = *File::open(path_);
  const auto refused = [&](auto change) {
    PleTable table = small_;
    change(table);
    const auto store = PleStore::create(file, table, {}, 4);
    return !store && store.error().code == ErrorCode::kModel &&
           store.error().message.find(path_.string()) != std::string::npos;
  };
  EXPECT_FALSE(refused([](PleTable&) {}));
  EXPECT_TRUE(refused([](PleTable& t) { t.rows = 1'001; }));
  EXPECT_TRUE(refused([](PleTable& t) { t.rows = 0; }));
  EXPECT_TRUE(refused([](PleTable& t) { t.rows = int64_t{1} << 31; }));
  EXPECT_TRUE(refused([](PleTable& t) { t.cols = 0; }));
  EXPECT_TRUE(refused([](PleTable& t) { t.stride = 0; }));
  EXPECT_TRUE(refused([](PleTable& t) { t.stride = uint64_t{1} << 62; }));
  EXPECT_TRUE(refused([](PleTable& t) { t.offset += 1; }));
  EXPECT_TRUE(refused([](PleTable& t) { t.offset = ~uint64_t{0}; }));
}

// Reads `path_` through plain file calls after `before_read` ran.
template <typename Before>
std::function<Status(uint64_t, std::span<std::byte>)> backend(std::shared_ptr<File> file, Before before_read) {
  return [file, before_read](uint64_t offset, std::span<std::byte> destination) -> Status {
    NESTLING_TRY_VOID(before_read());
    return file->read_at(offset, destination);
  };
}

TEST_F(PleStoreFailureTest, SlowStorageGivesRightRowsAndHonestStalls) {
  write_table(small_);
  auto file = std::make_shared<File>(*File::open(path_));
  const auto slow = backend(file, []() -> Status {
    std::this_thread::sleep_for(std::chrono::milliseconds(3));
    return {};
  });
  for (int threads : {0, 3}) {
    auto store = open(small_, {.cache_bytes = 1 << 20, .io_threads = threads, .read_for_test = slow});
    store->request(0, std::vector<int32_t>{41});
    ASSERT_TRUE(store->wait(0).has_value());
    expect_rows(*store, 0, {41});
    EXPECT_EQ(store->counters().stalls, 1u);
    EXPECT_GE(store->counters().stall_ms, 3.0);
    store->request(1, std::vector<int32_t>{41});
    ASSERT_TRUE(store->wait(1).has_value());
    EXPECT_EQ(store->counters().stalls, 1u) << "the cached row is there";

    const double before = store->counters().stall_ms;
    store->request(0, iota_ids(0, 130));
    ASSERT_TRUE(store->wait(0).has_value());
    expect_rows(*store, 0, iota_ids(0, 130));
    EXPECT_EQ(store->counters().stalls, 2u) << "one wait, one stall";
    EXPECT_GE(store->counters().stall_ms - before, 3.0);
  }
}

TEST_F(PleStoreFailureTest, ReadersWorkWhileTheClientDoesSomethingElse) {
  write_table(small_);
  auto file = std::make_shared<File>(*File::open(path_));
  auto reads = std::make_shared<std::atomic<int>>(0);
  auto gate = std::make_shared<std::promise<void>>();
  auto opened = std::make_shared<std::shared_future<void>>(gate->get_future().share());
  auto store = open(small_, {.io_threads = 2, .read_for_test = backend(file, [reads, opened]() -> Status {
                                                   opened->wait();
                                                   ++*reads;
                                                   reads->notify_all();
                                                   return {};
                                                 })});
  store->request(0, iota_ids(0, 130));  // returns although nothing can be read
  EXPECT_EQ(*reads, 0);
  gate->set_value();
  for (int seen = 0; (seen = *reads) < 130;) reads->wait(seen);  // read by the I/O threads alone
  ASSERT_TRUE(store->wait(0).has_value());
  expect_rows(*store, 0, iota_ids(0, 130));
  EXPECT_EQ(*reads, 130);
}

TEST_F(PleStoreFailureTest, AFailedReadIsReportedAndNotCached) {
  write_table(small_);
  auto file = std::make_shared<File>(*File::open(path_));
  auto failing = std::make_shared<std::atomic<bool>>(true);
  const auto flaky = backend(file, [failing]() -> Status {
    if (*failing) return fail(ErrorCode::kFailed, "disk: gone");
    return {};
  });
  for (int32_t count : {2, 200}) {
    auto store = open(small_, {.cache_bytes = 1 << 20, .read_for_test = flaky});
    *failing = true;
    store->request(0, iota_ids(0, count));
    const Status status = store->wait(0);
    ASSERT_FALSE(status.has_value());
    EXPECT_EQ(status.error().message, "disk: gone");
    EXPECT_EQ(store->counters().bytes_read, 0u);
    *failing = false;
    store->request(0, iota_ids(0, count));
    ASSERT_TRUE(store->wait(0).has_value());
    expect_rows(*store, 0, iota_ids(0, count));
    EXPECT_EQ(store->counters().cache_hits, 0u);
  }
}

TEST_F(PleStoreFailureTest, RequestsNobodyWaitsForDoNoHarm) {
  write_table(small_);
  auto store = open(small_, {.cache_bytes = 30 * 140});
  for (int32_t i = 0; i < 50; ++i) {
    store->request(0, iota_ids(i, 250));
    store->request(1, iota_ids(i, 3));
    store->request(0, iota_ids(500 - i, 250));
    store->request(1, std::vector<int32_t>{i});
    if (i % 2 == 0) continue;
    ASSERT_TRUE(store->wait(0).has_value());
    ASSERT_TRUE(store->wait(1).has_value());
    expect_rows(*store, 0, iota_ids(500 - i, 250));
    expect_rows(*store, 1, {i});
  }
  store->request(0, iota_ids(0, 300));
}  // destroyed while reading

}  // namespace
}  // namespace nestling
