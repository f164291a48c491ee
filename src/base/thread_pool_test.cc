#include "base/thread_pool.h"

#include <atomic>
#include <chrono>
#include <mutex>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

namespace nestling {
namespace {

struct Calls {
  std::vector<int> seen;  // how often each unit was given out
  int64_t calls = 0;
  bool strangers = false;  // whether another thread than the test's was called
};

// Splits [0, count) in one of the two ways and notes who was called with what.
Calls calls_of(ThreadPool& pool, bool shares, int64_t count, int64_t grain, int64_t work) {
  Calls result{.seen = std::vector<int>(static_cast<size_t>(count))};
  std::mutex mutex;
  const auto caller = std::this_thread::get_id();
  const auto body = [&](int64_t begin, int64_t end) {
    const std::lock_guard lock(mutex);
    ++result.calls;
    result.strangers |= std::this_thread::get_id() != caller;
    for (int64_t i = begin; i < end; ++i) ++result.seen[static_cast<size_t>(i)];
  };
  shares ? pool.for_shares(count, grain, body, work) : pool.for_ranges(count, grain, body, work);
  return result;
}

TEST(ThreadPool, EveryUnitIsGivenOutOnce) {
  for (const int threads : {1, 2, 3, 17}) {
    ThreadPool pool(threads, /*spin=*/false);
    for (const bool shares : {false, true})
      for (const int64_t count : {1, 5, 64, 1000})
        for (const int64_t grain : {1, 16})
          for (const int64_t work : {int64_t{0}, ThreadPool::kWorthSharing})
            EXPECT_EQ(calls_of(pool, shares, count, grain, work).seen, std::vector<int>(static_cast<size_t>(count), 1))
                << threads << " " << shares << " " << count << " " << grain << " " << work;
  }
}

TEST(ThreadPool, LittleWorkStaysOnTheCallingThread) {
  ThreadPool pool(3, /*spin=*/false);
  for (const bool shares : {false, true}) {
    const Calls calls = calls_of(pool, shares, 1000, 1, ThreadPool::kWorthSharing - 1);
    EXPECT_EQ(calls.calls, 1);
    EXPECT_FALSE(calls.strangers);
  }
  EXPECT_EQ(pool.forks(), 0u);
}

TEST(ThreadPool, WorkWorthAForkReachesEveryThread) {
  ThreadPool pool(3, /*spin=*/false);
  const Calls calls = calls_of(pool, /*shares=*/false, 1000, 1, ThreadPool::kWorthSharing);
  EXPECT_EQ(calls.calls, 3);
  EXPECT_TRUE(calls.strangers);
  EXPECT_EQ(pool.forks(), 1u);
}

TEST(ThreadPool, TheBoundCanBeChosen) {
  ThreadPool eager(2, /*spin=*/false, /*worth_sharing=*/0), one(1, /*spin=*/false, /*worth_sharing=*/0);
  EXPECT_EQ(calls_of(eager, /*shares=*/false, 2, 1, 0).calls, 2);
  EXPECT_EQ(calls_of(one, /*shares=*/false, 2, 1, 0).calls, 1);
}

// Workers fall asleep (parked, or tired of spinning) and are woken at every moment, from a caller that others preempt.
TEST(ThreadPool, NoWakeUpIsLost) {
  for (const bool spin : {false, true}) {
    ThreadPool pool(4, spin);
    std::atomic<int> calls{0};
    for (int run = 0; run < 2000; ++run) {
      pool.run([&](int) { calls.fetch_add(1, std::memory_order_relaxed); });
      if (run % 3 == 0) pool.park();
      if (run % 50 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
    EXPECT_EQ(calls.load(), 4 * 2000);
  }
}

}  // namespace
}  // namespace nestling
