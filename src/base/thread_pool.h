// Fork-join threads for the steps of a forward pass: they spin while a step runs (a wake-up through the kernel costs
// 15 to 40 microseconds, a spin 0.1 to 0.6) and park when the caller says that the step is over.
#pragma once

#include <atomic>
#include <cstdint>
#include <limits>
#include <thread>
#include <type_traits>
#include <vector>

namespace nestling {

class ThreadPool {
 public:
  // A fork and a join cost 1 to 2 microseconds, so that two threads are no faster than one at what takes one thread 2 to
  // 4. That is about this many bytes of weights (17 to 35 GB/s), or multiply-adds of float32. Less is done by the calling
  // thread. The smallest products of E2B that threads share, LAuReL's of 2,048 x 64 in q4, have 73,728 bytes.
  static constexpr int64_t kWorthSharing = 64 << 10;

  // `threads` >= 1, the calling thread included. `spin`: false where there are fewer cores than threads.
  explicit ThreadPool(int threads, bool spin = true, int64_t worth_sharing = kWorthSharing);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int size() const { return static_cast<int>(workers_.size()) + 1; }

  bool shares(int64_t work) const { return work >= worth_sharing_ && !workers_.empty(); }
  // How often work was shared since the pool began, modulo 2^32.
  uint32_t forks() const { return generation_.load(std::memory_order_relaxed); }

  // Calls body(thread) once for every thread in [0, size()) and returns when all are done. Not re-entrant.
  template <typename Body>
  void run(Body&& body) {
    if (workers_.empty()) {
      body(0);
      return;
    }
    using Plain = std::remove_reference_t<Body>;
    start([](void* context, int thread) { (*static_cast<Plain*>(context))(thread); },
          const_cast<std::remove_const_t<Plain>*>(&body));
    body(0);
    finish();
  }

  // Splits [0, count) into one contiguous range per thread, borders on multiples of `grain`: body(begin, end).
  // What a range computes must not depend on where it begins: results may not depend on the number of threads. `work`: of
  // the whole, in the unit of kWorthSharing; more than that where none is given.
  template <typename Body>
  void for_ranges(int64_t count, int64_t grain, Body&& body, int64_t work = kMuchWork) {
    const int64_t units = (count + grain - 1) / grain;
    if (units <= 1 || !shares(work)) {
      if (count > 0) body(int64_t{0}, count);
      return;
    }
    run([&](int thread) {
      const int64_t begin = units * thread / size() * grain;
      const int64_t end = units * (thread + 1) / size() * grain;
      if (begin < end && begin < count) body(begin, end < count ? end : count);
    });
  }

  // The same, but the last quarter of every range is cut into pieces that whoever is free takes: cores that share memory
  // with others are never equally fast. For ranges worth many microseconds; body may be called several times per thread.
  template <typename Body>
  void for_shares(int64_t count, int64_t grain, Body&& body, int64_t work = kMuchWork) {
    const int64_t units = (count + grain - 1) / grain, threads = size();
    if (threads > kMaxShared || units < 8 * kPieces * threads || !shares(work))
      return for_ranges(count, grain, body, work);
    struct alignas(64) Taken {
      std::atomic<int> pieces{0};
    };
    Taken taken[kMaxShared];
    const auto call = [&](int64_t first, int64_t last) {
      if (first < last) body(first * grain, last * grain < count ? last * grain : count);
    };
    run([&](int thread) {
      const auto begin = [&](int64_t of) { return units * of / threads; };
      const auto tail = [&](int64_t of) { return begin(of + 1) - (begin(of + 1) - begin(of)) / 4; };
      call(begin(thread), tail(thread));
      for (int64_t i = 0; i < threads; ++i) {
        const int64_t of = (thread + i) % threads, first = tail(of), length = begin(of + 1) - first;
        for (int piece = taken[of].pieces.fetch_add(1, std::memory_order_relaxed); piece < kPieces;
             piece = taken[of].pieces.fetch_add(1, std::memory_order_relaxed))
          call(first + length * piece / kPieces, first + length * (piece + 1) / kPieces);
      }
    });
  }

  // Between requests: the workers sleep until the next run().
  void park();

 private:
  static constexpr int64_t kMuchWork = std::numeric_limits<int64_t>::max();
  static constexpr int kPieces = 3;      // of a tail
  static constexpr int kMaxShared = 16;  // threads
  using Function = void (*)(void*, int);
  void start(Function function, void* context);
  void finish();
  void work(int thread);

  std::vector<std::thread> workers_;
  bool spin_;
  int64_t worth_sharing_;
  Function function_ = nullptr;
  void* context_ = nullptr;
  alignas(64) std::atomic<uint32_t> generation_{0};
  alignas(64) std::atomic<int> pending_{0};
  alignas(64) std::atomic<bool> parked_{true};  // written by the calling thread alone
  std::atomic<int> asleep_{0};                  // workers that need a wake-up
  std::atomic<bool> stopping_{false};
};

// The number of threads to use by default: cores of the highest capacity within the affinity mask and the cgroup quota.
int default_thread_count();
// Cores this process may use at once (affinity mask and cgroup quota), at least 1.
int available_core_count();

}  // namespace nestling
