#include "base/thread_pool.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <string>

#include <sched.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "base/check.h"

namespace nestling {
namespace {

void cpu_relax() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Pauses before a waiting thread begins to offer its core to others: about 20 microseconds, longer than most steps take.
constexpr int kPauses = 1'000;
// A worker that saw no work for this many further offers sleeps although nobody called park(): about a millisecond.
constexpr int kYields = 2'000;

}  // namespace

ThreadPool::ThreadPool(int threads, bool spin, int64_t worth_sharing) : spin_(spin), worth_sharing_(worth_sharing) {
  NESTLING_CHECK_GE(threads, 1);
  for (int thread = 1; thread < threads; ++thread) workers_.emplace_back([this, thread] { work(thread); });
}

ThreadPool::~ThreadPool() {
  stopping_ = true;
  generation_.fetch_add(1);
  generation_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void ThreadPool::start(Function function, void* context) {
  function_ = function;
  context_ = context;
  pending_.store(static_cast<int>(workers_.size()), std::memory_order_relaxed);
  parked_.store(false, std::memory_order_relaxed);
  // A worker counts itself asleep before its last look at the generation: it sees the new one or is seen here.
  generation_.fetch_add(1, std::memory_order_seq_cst);
  if (asleep_.load(std::memory_order_seq_cst) > 0) generation_.notify_all();
}

void ThreadPool::finish() {
  int spins = 0;
  while (pending_.load(std::memory_order_acquire) != 0) {
    if (spin_ && ++spins < kPauses)
      cpu_relax();
    else
      std::this_thread::yield();
  }
}

void ThreadPool::work(int thread) {
  uint32_t seen = 0;
  while (true) {
    int spins = 0;
    while (generation_.load(std::memory_order_acquire) == seen) {
      if (spin_ && !parked_.load(std::memory_order_relaxed) && ++spins < kPauses + kYields) {
        spins < kPauses ? cpu_relax() : std::this_thread::yield();
        continue;
      }
      asleep_.fetch_add(1, std::memory_order_seq_cst);
      generation_.wait(seen, std::memory_order_seq_cst);
      asleep_.fetch_sub(1, std::memory_order_relaxed);
      spins = 0;
    }
    seen = generation_.load(std::memory_order_acquire);
    if (stopping_) return;
    function_(context_, thread);
    pending_.fetch_sub(1, std::memory_order_release);
  }
}

void ThreadPool::park() { parked_.store(true, std::memory_order_relaxed); }

int available_core_count() {
  cpu_set_t set;
  CPU_ZERO(&set);
  int cores = sched_getaffinity(0, sizeof(set), &set) == 0 ? CPU_COUNT(&set) : 1;
  std::ifstream quota_file("/sys/fs/cgroup/cpu.max");
  std::string quota;
  double period = 0;
  if (quota_file >> quota >> period && quota != "max" && period > 0)
    cores = std::min(cores, std::max(1, static_cast<int>(std::ceil(std::stod(quota) / period))));
  return std::max(1, cores);
}

int default_thread_count() {
  // Big-little machines: a fork-join step waits for its slowest thread, so only cores of the highest capacity count.
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof(set), &set) != 0) return 1;
  int best = -1, count = 0;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(cpu, &set)) continue;
    std::ifstream file("/sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/cpu_capacity");
    int capacity = 0;
    file >> capacity;
    if (capacity > best) best = capacity, count = 0;
    if (capacity == best) ++count;
  }
  return std::clamp(count, 1, available_core_count());
}

}  // namespace nestling
