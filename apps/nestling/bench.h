// What the files of `nestling bench` share: the figures it is made of.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "base/aligned.h"
#include "base/error.h"
#include "bench_work.h"
#include "options.h"
#include "runtime/engine.h"

namespace nestling {

struct BenchOptions {
  std::string model, synthetic;  // one of them
  WeightChoice weights;
  EngineOptions engine;
  std::string sizes;               // separated by commas; "": engine.size
  std::vector<int64_t> prompts;    // lengths of prompts; empty: those of 32, 128, 512 and 2,048 that fit
  std::vector<int64_t> depths{0};  // tokens before the ones that decode measures
  int64_t gen_tokens = 64, repeat = 5;
  std::vector<int64_t> image_sizes, audio_seconds;  // where any is given, the encoders are measured and not the text model
  bool media() const { return !image_sizes.empty() || !audio_seconds.empty(); }
  std::string csv, compare_to;
  bool check = false, json = false;
};

struct Spread {
  double median = 0, min = 0, max = 0;
  int64_t runs = 0;
};
Spread spread_of(std::vector<double> values);

// One line of the report.
struct Measurement {
  std::string size, what;  // "e2b", "prefill 512"
  std::string unit;        // of `value`
  Spread value;
  // Beside what the machine can do: the ceiling was measured directly before and after each run, and the share is of
  // that one. Empty where nothing bounds the figure.
  std::string ceiling_name, ceiling_unit;
  double rate = 0, ceiling = 0;  // medians, in ceiling_unit
  Spread share;                  // 0 to 1
  std::optional<double> before;  // the median in the file of --compare-to
};

// The machine without the model.
struct Machine {
  std::string processor, kernels;
  int threads = 1;
  double latency_ns = 0;  // between the first two threads' cores; 0: one thread
  double read_1 = 0, read_n = 0, int8 = 0, float32 = 0;  // GB/s with one and all threads, GMAC/s
  double load = 0;  // running tasks over the last minute, when the benchmark began
};

// One size of the model.
struct SizeReport {
  ModelSize size;
  double kept = 0;  // measured share of the neurons of sparse layers that pass the gate; 0 without such layers
  Work work;
  PleCounters decode_ple, prompt_ple;  // of the last run at depth 0 and of the longest prompt
  int64_t decode_tokens = 0, prompt_tokens = 0;
  uint64_t resident_bytes = 0, peak_resident_bytes = 0;  // the benchmark's own array taken off
  std::string plan_table;
  uint64_t planned_bytes = 0;
};

struct BenchReport {
  std::string model;
  std::string weights;  // "q4, head q6, PLE q8"
  std::string kv, ple;
  int64_t context = 0, chunk = 0;
  Machine machine;
  std::vector<SizeReport> sizes;
  std::vector<Measurement> measurements;
  std::vector<std::string> notes;
};

// Before the buffer is first written; the system may decline.
void use_huge_pages(const AlignedBuffer& buffer);

// The machine's ceilings, measured next to each run. Holds an array of its own to read.
class Probe {
 public:
  Probe();
  uint64_t bytes() const { return array_.size(); }
  double read(ThreadPool& pool) const;                           // GB/s
  double int8(const Kernels& kernels, ThreadPool& pool) const;   // GMAC/s
  Result<Machine> machine(const Kernels& kernels, int threads) const;

 private:
  AlignedBuffer array_;
};

// The engine's prefill, decode, load, memory and PLE figures for `size`, appended to `report`.
Status measure_size(const std::filesystem::path& package, const BenchOptions& options, const std::string& size,
                    const Probe& probe, BenchReport& report);

// bench_rows.cc: passes of 1, 2, 4 and 8 rows (`ids`: 8 of them), appended to report.measurements.
Status measure_rows(Engine& engine, std::span<const int32_t> ids, int64_t repeat, BenchReport& report);

// bench_media.cc: the encoders of pictures and sounds, appended to report.measurements.
Status measure_media(const std::filesystem::path& package, const BenchOptions& options, const Probe& probe,
                     BenchReport& report);

// The peak of resident memory counts from here on (Linux 4.0 and later; elsewhere from the start of the program).
void reset_peak_resident_bytes();

// bench_report.cc
Status print_report(const BenchReport& report);
Status print_report_json(const BenchReport& report, const BenchOptions& options);
Status write_csv(const BenchReport& report, const std::string& path);
// Fills Measurement::before from an earlier --json document. kUsage when the file is no such document.
Status compare_to(BenchReport& report, const std::string& path);

// bench_check.cc: the weight products alone, without a model; appended to report.measurements.
Status measure_products(const Probe& probe, const Kernels& kernels, int threads, int64_t repeat, BenchReport& report);
// Prints every figure that has a floor; false when one is below it.
Result<bool> check_floors(const BenchReport& report);

}  // namespace nestling
