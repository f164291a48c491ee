// What streaming the per-layer embeddings costs on this machine: stalls per decoded token and the delay of a 512-token
// prompt, cold and warm, beside the resident store and beside a plain read of the same rows.
//   ple_benchmark [DIRECTORY] [--rows N]     the table (2.5 GB with 262,144 rows) is written to DIRECTORY and removed
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <functional>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <fmt/format.h>

#include "base/file.h"
#include "base/thread_pool.h"
#include "storage/ple_store.h"

namespace nestling {
namespace {

using Clock = std::chrono::steady_clock;

double ms_since(Clock::time_point start) {
  return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

[[noreturn]] void die(const std::string& what) {
  fmt::print(stderr, "ple_benchmark: {}\n", what);
  std::exit(1);
}

struct Shape {
  const char* name;
  int64_t cols;
  uint64_t stride;
};
constexpr Shape kShapes[] = {{"E2B q8", 7'680, 8'160}, {"E4B q8", 8'960, 9'520}};
constexpr int kTokens = 400;
constexpr int64_t kChunk = 512;

// The median of 35 layers at 10 tokens a second is 2.9 ms; a faster machine hides less.
constexpr double kLayerMs[] = {0.0, 0.5, 3.0};
constexpr double kPromptLayerMs = 25;  // layer 0 of a 512-token prompt, 0.8 s over about 30 layers

class Bench {
 public:
  Bench(const std::filesystem::path& path, int64_t rows) : file_(open(path)), rows_(rows) {}

  void shape(const Shape& shape) {
    table_ = {.type = WeightType::kQ8, .rows = rows_, .cols = shape.cols, .offset = 0, .stride = shape.stride};
    fmt::print("\n{}: rows of {} bytes, {} of them\n", shape.name, table_.stride, rows_);
    ceiling();
    for (double layer : kLayerMs) decode("cold page cache", layer, {}, [this] { drop_page_cache(); });
    decode("warm page cache", 3.0, {}, [this] { read_whole_file(); });
    decode("rows in the row cache", 3.0, {.cache_bytes = uint64_t{64} << 20}, [this] { drop_page_cache(); }, true);
    prompt();
  }

 private:
  static File open(const std::filesystem::path& path) {
    auto file = File::open(path);
    if (!file) die(file.error().message);
    return std::move(*file);
  }

  std::unique_ptr<PleStore> store(const PleOptions& options) {
    auto created = PleStore::create(file_, table_, options, kChunk);
    if (!created) die(created.error().message);
    return std::move(*created);
  }

  std::vector<int32_t> ids(int64_t count) {
    std::vector<int32_t> result(static_cast<size_t>(count));
    for (int32_t& id : result) id = static_cast<int32_t>(random_() % static_cast<uint64_t>(rows_));
    return result;
  }

  void drop_page_cache() const { ::posix_fadvise(file_.fd(), 0, 0, POSIX_FADV_DONTNEED); }

  void read_whole_file() const {
    std::vector<std::byte> buffer(uint64_t{8} << 20);
    for (uint64_t at = 0; at < file_.size(); at += buffer.size())
      (void)file_.read_at(at, std::span(buffer).first(std::min<uint64_t>(buffer.size(), file_.size() - at)));
  }

  // The same rows without the store: one positional read after another, and faults on a mapping as others do it.
  void ceiling() {
    std::vector<std::byte> row(table_.stride);
    drop_page_cache();
    auto start = Clock::now();
    const int fd = ::open(file_.path().c_str(), O_RDONLY);
    ::posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM);
    for (int32_t id : ids(kTokens))
      if (::pread(fd, row.data(), row.size(), static_cast<off_t>(static_cast<uint64_t>(id) * table_.stride)) < 0)
        die("pread");
    fmt::print("  plain pread, cold                        {:7.3f} ms/row\n", ms_since(start) / kTokens);
    ::close(fd);
    drop_page_cache();
    const auto mapped = MappedFile::map(file_, 0, file_.size());
    if (!mapped) die(mapped.error().message);
    start = Clock::now();
    for (int32_t id : ids(50))
      std::memcpy(row.data(), mapped->bytes().data() + static_cast<uint64_t>(id) * table_.stride, row.size());
    fmt::print("  mapping with default advice, cold        {:7.3f} ms/row\n", ms_since(start) / 50);
  }

  // All cores compute for `layer_ms` between request and wait, as layer 0 would.
  void decode(const char* name, double layer_ms, const PleOptions& options, const std::function<void()>& prepare,
              bool twice = false) {
    auto s = store(options);
    prepare();
    const std::vector<int32_t> tokens = ids(kTokens);
    if (twice) decode_tokens(*s, tokens, 0);
    const PleCounters before = s->counters();
    const std::vector<double> waits = decode_tokens(*s, tokens, layer_ms);
    const PleCounters after = s->counters();
    fmt::print("  decode, {:<21} {:3.1f} ms layer: stalls {:3} of {}, {:6.3f} ms/token; wait() p50 {:6.3f} p99 {:6.3f} "
               "max {:6.3f} ms\n",
               name, layer_ms, after.stalls - before.stalls, kTokens, (after.stall_ms - before.stall_ms) / kTokens,
               waits[waits.size() / 2], waits[waits.size() * 99 / 100], waits.back());
  }

  std::vector<double> decode_tokens(PleStore& s, const std::vector<int32_t>& tokens, double layer_ms) {
    std::vector<double> waits;
    for (int32_t id : tokens) {
      s.request(1, {&id, 1});
      compute(layer_ms);
      const auto start = Clock::now();
      if (const Status status = s.wait(1); !status) die(status.error().message);
      waits.push_back(ms_since(start));
    }
    std::ranges::sort(waits);
    return waits;
  }

  void compute(double ms) {
    if (ms <= 0) return;
    const auto start = Clock::now();
    pool_.run([&](int) {
      while (ms_since(start) < ms) {
      }
    });
  }

  double prompt_ms(PleStore& s, double layer_ms) {
    std::vector<double> times;
    for (int repeat = 0; repeat < 21; ++repeat) {
      const std::vector<int32_t> chunk = ids(kChunk);
      drop_page_cache();
      const auto start = Clock::now();
      s.request(0, chunk);
      compute(layer_ms);
      if (const Status status = s.wait(0); !status) die(status.error().message);
      times.push_back(ms_since(start) - layer_ms);
    }
    std::ranges::sort(times);
    return times[times.size() / 2];
  }

  void prompt() {
    auto resident = store({.mode = PleMode::kResident});
    for (double layer : {0.0, kPromptLayerMs}) {
      const double r = prompt_ms(*resident, layer);
      for (int threads : {0, 1, 2, 4, 8}) {
        auto stream = store({.io_threads = threads});
        const double s = prompt_ms(*stream, layer);
        fmt::print("  prompt of {} cold rows, {:4.1f} ms layer, {} I/O threads: {:6.2f} ms, resident {:5.2f}, behind "
                   "{:5.2f}\n",
                   kChunk, layer, threads, s, r, s - r);
      }
    }
  }

  File file_;
  int64_t rows_;
  PleTable table_;
  std::mt19937_64 random_{7};
  ThreadPool pool_{available_core_count()};
};

void write_table(const std::filesystem::path& path, uint64_t bytes) {
  std::mt19937_64 random(1);
  std::vector<uint64_t> block((uint64_t{1} << 20) / 8);
  auto writer = AtomicFileWriter::create(path);
  if (!writer) die(writer.error().message);
  for (uint64_t done = 0; done < bytes; done += block.size() * 8) {
    for (uint64_t& x : block) x = random();
    const uint64_t n = std::min<uint64_t>(block.size() * 8, bytes - done);
    if (const Status s = writer->write(std::as_bytes(std::span(block)).first(n)); !s) die(s.error().message);
  }
  if (const Status s = writer->commit(); !s) die(s.error().message);
}

int main(int argc, char** argv) {
  std::filesystem::path directory = std::filesystem::temp_directory_path();
  int64_t rows = 262'144;
  for (int i = 1; i < argc; ++i) {
    if (std::strcmp(argv[i], "--rows") == 0 && i + 1 < argc)
      rows = std::max(1LL, std::atoll(argv[++i]));
    else
      directory = argv[i];
  }
  const std::filesystem::path path = directory / fmt::format("nestling-ple-benchmark-{}", ::getpid());
  fmt::print("writing {} rows to {} (figures are for a file written in this boot)\n", rows, path.string());
  write_table(path, static_cast<uint64_t>(rows) * kShapes[1].stride);
  {
    Bench bench(path, rows);
    for (const Shape& shape : kShapes) bench.shape(shape);
  }
  std::filesystem::remove(path);
  return 0;
}

}  // namespace
}  // namespace nestling

int main(int argc, char** argv) { return nestling::main(argc, argv); }
