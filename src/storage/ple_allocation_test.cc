// After create() the store allocates nothing, neither in the client's calls nor in its I/O threads. (Clang's thread
// sanitizer brings an operator new that cannot be replaced.)
#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define NESTLING_NO_ALLOCATION_COUNT
#endif
#endif

#ifndef NESTLING_NO_ALLOCATION_COUNT
#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <new>
#include <vector>

#include <unistd.h>

#include <gtest/gtest.h>

#include "storage/ple_store.h"

namespace {
std::atomic<int64_t> allocations{0};
}  // namespace

// The array and nothrow forms of the library come down to these.
void* operator new(std::size_t bytes) {
  ++allocations;
  if (void* p = std::malloc(bytes)) return p;
  throw std::bad_alloc();
}
void operator delete(void* p) noexcept { std::free(p); }
void operator delete(void* p, std::size_t) noexcept { std::free(p); }

namespace nestling {
namespace {

TEST(PleAllocation, RequestsAndWaitsAllocateNothing) {
  const auto path = std::filesystem::temp_directory_path() / ("nestling-ple-alloc-" + std::to_string(::getpid()));
  const PleTable table{.type = WeightType::kQ8, .rows = 500, .cols = 96, .offset = 0, .stride = 112};
  std::ofstream(path, std::ios::binary) << std::string(500 * 112, 'x');
  std::vector<int32_t> batch(200);
  for (PleMode mode : {PleMode::kStream, PleMode::kResident}) {
    auto store = PleStore::create(*File::open(path), table, {.mode = mode, .cache_bytes = 20'000}, 200);
    ASSERT_TRUE(store.has_value());
    bool all_there = true;
    const int64_t before = allocations;
    for (int32_t step = 0; step < 100; ++step) {
      for (int32_t i = 0; i < 200; ++i) batch[static_cast<size_t>(i)] = (step * 17 + i) % 500;
      const int32_t next = step * 3;
      (*store)->request(0, batch);
      (*store)->request(1, {&next, 1});
      all_there = (*store)->wait(0).has_value() && (*store)->wait(1).has_value() && all_there;
    }
    EXPECT_EQ(allocations, before);
    EXPECT_TRUE(all_there);
  }
  std::filesystem::remove(path);
}

}  // namespace
}  // namespace nestling
#endif
