// The machine's own ceilings for `nestling bench`.
#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <fstream>

#include <sys/mman.h>

#include "bench.h"
#include "kernels/ceilings.h"

namespace nestling {
namespace {

constexpr int kReadings = 3;  // of which the median counts
constexpr uint64_t kArrayBytes = uint64_t{512} << 20, kLeastArrayBytes = uint64_t{64} << 20;

template <typename Measure>
double median_of(Measure measure) {
  std::vector<double> readings;
  for (int i = 0; i < kReadings; ++i) readings.push_back(measure());
  return spread_of(std::move(readings)).median;
}

std::string processor_name() {
  std::ifstream info("/proc/cpuinfo");
  std::string name, family, model;
  const auto value = [](const std::string& line) { return line.substr(std::min(line.find(':') + 2, line.size())); };
  for (std::string line; std::getline(info, line) && !line.empty();) {
    if (line.starts_with("model name")) name = value(line);
    if (line.starts_with("cpu family")) family = value(line);
    if (line.starts_with("model\t")) model = value(line);
  }
  if (name.empty()) return "unknown processor";
  return family.empty() ? name : fmt::format("{} (family {} model {})", name, family, model);
}

}  // namespace

void use_huge_pages(const AlignedBuffer& buffer) {
#ifdef MADV_HUGEPAGE
  ::madvise(buffer.data(), buffer.size(), MADV_HUGEPAGE);
#endif
}

// Several times the last-level cache, and little beside what is free. Huge pages: what plain reading can reach at best.
Probe::Probe() {
  const uint64_t wanted = std::clamp(available_memory_bytes() / 8, kLeastArrayBytes, kArrayBytes);
  array_ = AlignedBuffer(wanted / 4096 * 4096);
  use_huge_pages(array_);
  std::memset(array_.data(), 0x5a, array_.size());  // pages never written all map to one page of zeros, in the cache
}

double Probe::read(ThreadPool& pool) const {
  return median_of([&] { return measure_read(pool, array_.data(), array_.size()); }) / 1e9;
}

double Probe::int8(const Kernels& kernels, ThreadPool& pool) const {
  return median_of([&] { return measure_int8(kernels, pool); }) / 1e9;
}

Result<Machine> Probe::machine(const Kernels& kernels, int threads) const {
  ThreadPool one(1), all(threads, threads <= available_core_count());
  Machine machine{.processor = processor_name(), .kernels = std::string(kernels.name()), .threads = threads};
  if (::getloadavg(&machine.load, 1) != 1) machine.load = 0;
  machine.latency_ns = measure_core_latency(all) * 1e9;
  machine.read_1 = read(one);
  machine.read_n = read(all);
  machine.int8 = int8(kernels, all);
  machine.float32 = median_of([&] { return measure_float(kernels, all); }) / 1e9;
  return machine;
}

}  // namespace nestling
