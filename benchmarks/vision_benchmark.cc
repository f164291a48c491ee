// The vision tower of the published shapes on random weights: seconds per picture, the int8 peak measured beside it,
// time of each kind of block, memory, and how far the output is from that of float32 weights.
//   vision_benchmark [--size 256|512|768] [--threads N] [--weights q4|bf16|f32] [--rounds N] [--parts] [--against-f32]
// One thread is timed by its processor time, several by the clock. The package is kept in the cache directory;
// NESTLING_CPU=avx2 forces a set of kernels.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <random>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "importing/synthetic.h"
#include "kernels/ceilings.h"
#include "model/vision/vision_encoder.h"
#include "model/vision_tensors.h"

namespace nestling {
namespace {

template <typename T>
T value(Result<T> result) {
  if (result) return std::move(*result);
  fmt::print(stderr, "vision_benchmark: {}\n", result.error().message);
  std::exit(1);
}

void ok(const Status& status) {
  if (status) return;
  fmt::print(stderr, "vision_benchmark: {}\n", status.error().message);
  std::exit(1);
}

struct Options {
  int64_t size = 768;
  int threads = 2, rounds = 5;
  WeightType weights = WeightType::kQ4;
  bool parts = false, against_f32 = false;
};

Options parse(int argc, char** argv) {
  Options o;
  for (int i = 1; i < argc; ++i) {
    const std::string flag = argv[i];
    if (flag == "--parts" || flag == "--against-f32") {
      (flag == "--parts" ? o.parts : o.against_f32) = true;
      continue;
    }
    const char* text = i + 1 < argc ? argv[++i] : "";
    if (flag == "--size") o.size = std::atoll(text);
    else if (flag == "--threads") o.threads = std::atoi(text);
    else if (flag == "--rounds") o.rounds = std::atoi(text);
    else if (flag == "--weights") o.weights = weight_type_from_name(text).value_or(WeightType::kQ4);
    else ok(fail(ErrorCode::kUsage, "{} is no option", flag));
  }
  return o;
}

// Adds up the time between the taps, by kind of block.
class PartTimes : public Taps {
 public:
  explicit PartTimes(const ThreadPool& pool) : pool_(pool) {
    for (const VisionBlock& block : published_vision_architecture().blocks) {
      constexpr const char* kKinds[] = {"edge residual", "inverted residual", "attention"};
      kinds_[fmt::format("vision.blocks.{}.{}", block.stage, block.index)] =
          fmt::format("stage {} {}{}{}", block.stage, kKinds[static_cast<int>(block.kind)],
                      block.start_kernel > 0 ? ", depthwise" : "", block.mid_kernel > 0 ? " twice" : "");
    }
  }
  void start() { last_ = benchmark_seconds(pool_); }
  bool wants(const std::string&) const override { return true; }
  void record(const std::string& name, const std::vector<int64_t>&, const float*, int64_t) override {
    const auto kind = kinds_.find(name);
    times_[kind == kinds_.end() ? name : kind->second] += benchmark_seconds(pool_) - last_;
    start();
  }
  void print(int rounds) const {
    for (const auto& [name, seconds] : times_)
      if (seconds / rounds > 1e-4) fmt::print("  {:<40} {:8.1f} ms\n", name, seconds / rounds * 1e3);
  }

 private:
  const ThreadPool& pool_;
  std::map<std::string, std::string> kinds_;
  std::map<std::string, double> times_;
  double last_ = 0;
};

// Smooth blobs with some noise, in [0, 1].
std::vector<float> picture(int64_t size) {
  std::mt19937 random(1);
  std::uniform_real_distribution<float> uniform(0, 1);
  float phase[3][2];
  for (auto& p : phase)
    for (float& v : p) v = uniform(random) * 6.0f;
  std::vector<float> pixels;
  for (int64_t y = 0; y < size; ++y)
    for (int64_t x = 0; x < size; ++x)
      for (int c = 0; c < 3; ++c) {
        const float s = static_cast<float>(size);
        const float wave = std::sin(9.0f * static_cast<float>(x) / s + phase[c][0]) *
                           std::sin(7.0f * static_cast<float>(y) / s + phase[c][1]);
        pixels.push_back(std::clamp(0.5f + 0.4f * wave + 0.2f * (uniform(random) - 0.5f), 0.0f, 1.0f));
      }
  return pixels;
}

struct Tower {
  Package package;
  VisionEncoder encoder;
};

Tower open(WeightType weights) {
  const ImportOptions import{.weights = weights};
  const SyntheticModel model = value(synthetic_model("e4b", import, {.text = false, .vision = true}));
  Package package = value(Package::open(value(cached_synthetic(model, import, [] { return std::string(); }))));
  ok(package.load_region(Region::kVision));
  VisionEncoder encoder = value(VisionEncoder::bind(package));
  return {std::move(package), std::move(encoder)};
}

std::vector<float> encode(const Tower& tower, const Kernels& kernels, ThreadPool& pool, const Options& o, Taps* taps) {
  std::vector<float> rows(static_cast<size_t>(kVisionTokens * tower.encoder.width()));
  static const std::vector<float> pixels = picture(o.size);
  ok(tower.encoder.encode(kernels, pool, pixels.data(), o.size, rows.data(), taps));
  return rows;
}

void compare(const std::vector<float>& a, const std::vector<float>& b, int64_t width) {
  double least = 1, sum = 0;
  for (int64_t t = 0; t < kVisionTokens; ++t) {
    double ab = 0, aa = 0, bb = 0;
    for (int64_t i = t * width; i < (t + 1) * width; ++i) ab += a[i] * b[i], aa += a[i] * a[i], bb += b[i] * b[i];
    const double cosine = ab / std::sqrt(aa * bb);
    least = std::min(least, cosine);
    sum += cosine;
  }
  fmt::print("  cosine of a token with that of float32 weights: {:.6f} at least, {:.6f} on average\n", least,
             sum / kVisionTokens);
}

void run(const Options& o) {
  const Kernels kernels = value(Kernels::choose());
  ThreadPool pool(o.threads, o.threads <= available_core_count());
  const Tower tower = open(o.weights);
  const std::vector<float> rows = encode(tower, kernels, pool, o, nullptr);
  PartTimes parts(pool);
  std::vector<double> times, peaks;
  for (int i = 0; i < o.rounds; ++i) {
    peaks.push_back(measure_int8(kernels, pool) / 1e9);
    const double start = benchmark_seconds(pool);
    parts.start();
    encode(tower, kernels, pool, o, o.parts ? &parts : nullptr);
    times.push_back(benchmark_seconds(pool) - start);
  }
  std::ranges::sort(times);
  std::ranges::sort(peaks);
  const double median = times[times.size() / 2], peak = peaks[peaks.size() / 2];
  const double work = static_cast<double>(tower.encoder.multiply_adds(o.size)) / 1e9;
  fmt::print("{} {}, {} threads, {} x {} pixels\n", kernels.name(),
             weight_type_name(ImportOptions{.weights = o.weights}.tower_type()), o.threads, o.size, o.size);
  fmt::print("  {:.3f} s median, {:.3f} s best; {:.1f} GMAC, {:.0f} GMAC/s; int8 peak {:.0f} GMAC/s\n", median,
             times.front(), work, work / median, peak);
  fmt::print("  workspace {:.1f} MB by the plan; weights {:.1f} MB\n",
             static_cast<double>(tower.encoder.workspace_bytes(o.size, o.threads)) / 1e6,
             static_cast<double>(tower.package.region_bytes(Region::kVision)) / 1e6);
  if (o.parts) parts.print(o.rounds);
  if (o.against_f32) compare(rows, encode(open(WeightType::kF32), kernels, pool, o, nullptr), tower.encoder.width());
}

}  // namespace
}  // namespace nestling

int main(int argc, char** argv) {
  nestling::run(nestling::parse(argc, argv));
}
