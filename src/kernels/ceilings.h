// What the machine itself can do, measured now: every benchmark prints its figures beside these, because the same code
// differs by far more between machines, and between minutes on a shared one, than between two versions of a kernel.
#pragma once

#include <cstdint>

#include "base/thread_pool.h"
#include "kernels/kernels.h"

namespace nestling {

struct Ceilings {
  double read_bytes_per_second = 0;      // plain reading of memory, all threads of the pool together
  double int8_products_per_second = 0;   // int8 multiply-adds of the instruction set, on registers alone
};

// `read_bytes`: size of the array that is read, several times the last-level cache. Takes about a second.
Ceilings measure_ceilings(const Kernels& kernels, ThreadPool& pool, uint64_t read_bytes);

// Seconds for benchmarks: CPU time of the calling thread if it is the whole pool, so that other processes on the machine
// do not count; wall time otherwise.
double benchmark_seconds(const ThreadPool& pool);

// One pass over bytes that are there already, in four streams per thread; returns bytes per second.
double measure_read(ThreadPool& pool, const std::byte* bytes, uint64_t count);
// One run of some milliseconds; returns multiply-adds per second.
double measure_int8(const Kernels& kernels, ThreadPool& pool);
// The same for float32 multiply-adds.
double measure_float(const Kernels& kernels, ThreadPool& pool);
// Seconds a cache line takes from one core to another (half of a round trip between the first two threads, lower
// quartile of short series); 0 where there is one thread or one core. Takes at most about 0.3 s.
double measure_core_latency(ThreadPool& pool);

}  // namespace nestling
