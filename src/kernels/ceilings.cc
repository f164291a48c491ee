#include "kernels/ceilings.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <vector>

#include <sched.h>
#include <time.h>

#include "base/aligned.h"
#include "kernels/kernel_table.h"
#include "kernels/unroll.h"

namespace nestling {
namespace {

// XOR of all lines, in four streams: the fastest pattern on the machines measured. In vectors by hand, because compilers
// differ in what they make of the plain loop, and a ceiling may not.
uint64_t read_lines(const std::byte* bytes, uint64_t count) {
  using Vector __attribute__((vector_size(32))) = uint64_t;
  constexpr int kStreams = 4, kVectors = 2;
  const uint64_t stride = count / kStreams / 64 * 64;
  Vector sums[kStreams][kVectors] = {};
  for (uint64_t at = 0; at < stride; at += 64)
    NESTLING_UNROLL for (int s = 0; s < kStreams; ++s)
      NESTLING_UNROLL for (int i = 0; i < kVectors; ++i) {
        Vector v;
        std::memcpy(&v, bytes + s * stride + at + i * sizeof(v), sizeof(v));
        sums[s][i] ^= v;
      }
  Vector all = {};
  for (const auto& stream : sums)
    for (const Vector& sum : stream) all ^= sum;
  return all[0] ^ all[1] ^ all[2] ^ all[3];
}

double median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + values.size() / 2, values.end());
  return values[values.size() / 2];
}

// One run of some milliseconds on every thread.
double measure_products(int64_t (*products_of)(int64_t rounds), ThreadPool& pool) {
  constexpr int64_t kRounds = 1'000'000;
  std::atomic<int64_t> products = 0;
  const double start = benchmark_seconds(pool);
  pool.run([&](int) { products += products_of(kRounds); });
  return static_cast<double>(products) / (benchmark_seconds(pool) - start);
}

// Keeps the calling thread on one core of those it may use, the last but `from_end`, until it goes out of scope.
class PinnedThread {
 public:
  explicit PinnedThread(int from_end) {
    if (sched_getaffinity(0, sizeof(allowed_), &allowed_) != 0) return;
    for (int core = CPU_SETSIZE - 1; core >= 0; --core) {
      if (!CPU_ISSET(core, &allowed_) || from_end-- > 0) continue;
      cpu_set_t one;
      CPU_ZERO(&one);
      CPU_SET(core, &one);
      pinned_ = sched_setaffinity(0, sizeof(one), &one) == 0;
      return;
    }
  }
  ~PinnedThread() {
    if (pinned_) sched_setaffinity(0, sizeof(allowed_), &allowed_);
  }
  PinnedThread(const PinnedThread&) = delete;
  PinnedThread& operator=(const PinnedThread&) = delete;

 private:
  cpu_set_t allowed_{};
  bool pinned_ = false;
};

}  // namespace

double benchmark_seconds(const ThreadPool& pool) {
  timespec now{};
  clock_gettime(pool.size() == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

double measure_read(ThreadPool& pool, const std::byte* bytes, uint64_t count) {
  std::atomic<uint64_t> sink = 0;
  const double start = benchmark_seconds(pool);
  pool.for_ranges(static_cast<int64_t>(count / 64), 1, [&](int64_t begin, int64_t end) {
    sink.fetch_xor(read_lines(bytes + begin * 64, (end - begin) * 64), std::memory_order_relaxed);
  });
  return static_cast<double>(count) / (benchmark_seconds(pool) - start);
}

double measure_int8(const Kernels& kernels, ThreadPool& pool) {
  return measure_products(kernels.table().int8_products, pool);
}

double measure_float(const Kernels& kernels, ThreadPool& pool) {
  return measure_products(kernels.table().float_products, pool);
}

double measure_core_latency(ThreadPool& pool) {
  if (pool.size() < 2 || available_core_count() < 2) return 0;
  constexpr int kSeries = 4000, kRoundTrips = 20;
  constexpr double kMaxSeconds = 0.3;
  alignas(64) std::atomic<int64_t> line{0};  // odd: for thread 1 to answer; negative: the end
  std::vector<double> latencies;
  latencies.reserve(kSeries);
  pool.run([&](int thread) {
    if (thread > 1) return;
    const PinnedThread pinned(thread);  // two threads on one core would pass the line at the pace of the scheduler
    if (thread == 1) {
      for (int64_t seen = 0; (seen = line.load(std::memory_order_acquire)) >= 0;)
        if (seen % 2 == 1) line.store(seen + 1, std::memory_order_release);
    } else {
      const double first = benchmark_seconds(pool);
      int64_t ball = 0;
      for (int series = 0; series < kSeries && benchmark_seconds(pool) - first < kMaxSeconds; ++series) {
        const double start = benchmark_seconds(pool);
        for (int i = 0; i < kRoundTrips; ++i, ball += 2) {
          line.store(ball + 1, std::memory_order_release);
          while (line.load(std::memory_order_acquire) != ball + 2) {
          }
        }
        latencies.push_back((benchmark_seconds(pool) - start) / (2 * kRoundTrips));
      }
      line.store(-1, std::memory_order_release);
    }
  });
  // A series in which another process took one of the cores says nothing: the fastest quarter counts.
  std::ranges::sort(latencies);
  return latencies[latencies.size() / 4];
}

Ceilings measure_ceilings(const Kernels& kernels, ThreadPool& pool, uint64_t read_bytes) {
  constexpr int kRounds = 5;
  AlignedBuffer buffer(read_bytes);
  // Written pages: pages that were never written all map to one page of zeros, which stays in the cache.
  pool.for_ranges(static_cast<int64_t>(read_bytes), 4096,
                  [&](int64_t begin, int64_t end) { std::memset(buffer.data() + begin, 0x5a, end - begin); });
  std::vector<double> reads, products;
  for (int round = 0; round < kRounds; ++round) {
    reads.push_back(measure_read(pool, buffer.data(), read_bytes));
    products.push_back(measure_int8(kernels, pool));
  }
  return {median(reads), median(products)};
}

}  // namespace nestling
