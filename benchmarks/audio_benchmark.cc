// The audio tower of the published shapes on random weights: real-time factor, share of the int8 peak that is measured
// beside it, memory, and what streaming in pieces costs.
//   audio_benchmark [--seconds N] [--threads N] [--weights q4|bf16|f32] [--streamed] [--piece FRAMES] [--rounds N]
// The package is kept in the cache directory; NESTLING_CPU=avx2 forces a set of kernels.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "importing/synthetic.h"
#include "kernels/ceilings.h"
#include "model/audio/audio_encoder.h"

namespace nestling {
namespace {

constexpr double kMelPerSecond = 100;

template <typename T>
T value(Result<T> result) {
  if (result) return std::move(*result);
  fmt::print(stderr, "audio_benchmark: {}\n", result.error().message);
  std::exit(1);
}

void ok(const Status& status) {
  if (status) return;
  fmt::print(stderr, "audio_benchmark: {}\n", status.error().message);
  std::exit(1);
}

struct Options {
  double seconds = 30;
  int threads = 2, rounds = 5;
  int64_t piece = 0;  // mel frames per push; 0: the clip as a whole
  WeightType weights = WeightType::kQ4;
  bool streamed = false;
};

Options parse(int argc, char** argv) {
  Options o;
  for (int i = 1; i < argc; ++i) {
    const std::string flag = argv[i];
    if (flag == "--streamed") {
      o.streamed = true;
      continue;
    }
    const char* text = i + 1 < argc ? argv[++i] : "";
    if (flag == "--seconds") o.seconds = std::atof(text);
    else if (flag == "--threads") o.threads = std::atoi(text);
    else if (flag == "--rounds") o.rounds = std::atoi(text);
    else if (flag == "--piece") o.piece = std::atoll(text);
    else if (flag == "--weights") o.weights = weight_type_from_name(text).value_or(WeightType::kQ4);
    else ok(fail(ErrorCode::kUsage, "{} is no option", flag));
  }
  return o;
}

// A line of /proc/self/status in bytes.
uint64_t status_bytes(const char* key) {
  std::FILE* file = std::fopen("/proc/self/status", "r");
  char line[256];
  unsigned long long kib = 0;
  while (file != nullptr && std::fgets(line, sizeof(line), file) != nullptr)
    if (std::sscanf(line, (std::string(key) + ": %llu kB").c_str(), &kib) == 1) break;
  if (file != nullptr) std::fclose(file);
  return kib * 1024;
}

// CPU time where one thread does everything, so that other processes do not count; wall time otherwise.
double seconds_of(const ThreadPool& pool, const auto& body) {
  const double start = benchmark_seconds(pool);
  body();
  return benchmark_seconds(pool) - start;
}

std::vector<float> random_mel(int64_t frames, int64_t bins) {
  std::mt19937 random(1);
  std::uniform_real_distribution<float> uniform(-9, 3);
  std::vector<float> mel(static_cast<size_t>(frames * bins));
  for (float& v : mel) v = uniform(random);
  return mel;
}

void run(const Options& o) {
  const ImportOptions import{.weights = o.weights};
  const SyntheticModel model = value(synthetic_model("e4b", import, {.text = false, .audio = true}));
  const auto path = value(cached_synthetic(model, import, [] { return std::string(); }));
  Package package = value(Package::open(path));
  if (!o.streamed) ok(package.load_region(Region::kAudio));
  const Kernels kernels = value(Kernels::choose());
  ThreadPool pool(o.threads, o.threads <= available_core_count());
  const AudioWeights where = o.streamed ? AudioWeights::kStreamed : AudioWeights::kResident;
  std::optional<AudioEncoder> encoder;
  const AudioConfig& config = *model.config.audio;
  const double bind = seconds_of(pool, [&] { encoder = value(AudioEncoder::bind(package, config, where)); });

  const auto frames = static_cast<int64_t>(o.seconds * kMelPerSecond) - 3;
  const int64_t piece = o.piece > 0 ? o.piece : frames;
  const auto mel = random_mel(frames, encoder->mel_bins());
  const uint64_t before = status_bytes("VmRSS"), anonymous = status_bytes("RssAnon");
  uint64_t most_anonymous = 0;
  std::vector<float> rows;
  const auto encode = [&] {
    rows.clear();
    if (o.piece == 0) {
      rows = value(encoder->encode(kernels, pool, mel.data(), frames));
      return;
    }
    AudioEncoder::Stream stream(*encoder);
    for (int64_t done = 0; done < frames; done += piece)
      ok(stream.push(kernels, pool, mel.data() + done * encoder->mel_bins(), std::min(piece, frames - done), rows));
    most_anonymous = stream.state_bytes();
    ok(stream.finish(kernels, pool, nullptr, 0, rows));
  };
  std::vector<double> times, peaks;
  encode();
  for (int i = 0; i < o.rounds; ++i) {
    peaks.push_back(measure_int8(kernels, pool) / 1e9);
    times.push_back(seconds_of(pool, encode));
  }
  std::ranges::sort(times);
  std::ranges::sort(peaks);
  const double median = times[times.size() / 2];
  const double work = static_cast<double>(encoder->multiply_adds(frames)) / 1e9;
  fmt::print("{} {}, {} threads, {} mel frames ({:.1f} s){}: {} rows\n", kernels.name(),
             weight_type_name(import.tower_type()), o.threads, frames, o.seconds,
             o.streamed ? ", layers read from storage" : "", rows.size() / static_cast<size_t>(encoder->width()));
  fmt::print("  {:.3f} s median, {:.3f} s best; real-time factor {:.4f}; {:.0f} GMAC/s; int8 peak {:.0f}\n",
             median, times.front(), median / o.seconds, work / median, peaks[peaks.size() / 2]);
  fmt::print("  bind {:.2f} s; {:.1f} MB read per clip; workspace and state {:.1f} MB by the plan\n", bind,
             static_cast<double>(encoder->bytes_streamed()) / 1e6 / (o.rounds + 1),
             static_cast<double>(encoder->workspace_bytes(frames, o.threads)) / 1e6);
  fmt::print("  resident before {:.1f} MB (anonymous {:.1f}), peak {:.1f} MB, audio region {:.1f} MB{}\n",
             static_cast<double>(before) / 1e6, static_cast<double>(anonymous) / 1e6,
             static_cast<double>(status_bytes("VmHWM")) / 1e6,
             static_cast<double>(package.region_bytes(Region::kAudio)) / 1e6,
             most_anonymous > 0 ? fmt::format("; state {:.2f} MB", static_cast<double>(most_anonymous) / 1e6) : "");
}

}  // namespace
}  // namespace nestling

int main(int argc, char** argv) {
  nestling::run(nestling::parse(argc, argv));
}
