// The encoders of pictures and sounds for `nestling bench`: time, share of the int8 peak, memory beyond the weights.
#include <chrono>
#include <cmath>

#include "bench.h"
#include "interrupt.h"
#include "runtime/towers.h"

namespace nestling {
namespace {

using Clock = std::chrono::steady_clock;

template <typename Body>
Result<double> milliseconds_of(Body body) {
  const auto start = Clock::now();
  NESTLING_TRY_VOID(body());
  return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

// Speech-like enough for the front end, which does the same work whatever it hears.
std::vector<float> sweep(double seconds) {
  std::vector<float> samples(static_cast<size_t>(seconds * static_cast<double>(kAudioSampleRate)));
  for (size_t i = 0; i < samples.size(); ++i) {
    const double time = static_cast<double>(i) / static_cast<double>(kAudioSampleRate);
    samples[i] = static_cast<float>(0.3 * std::sin(2 * M_PI * time * (200 + 100 * std::sin(time))));
  }
  return samples;
}

// A package without its text core: towers work alone.
class MediaBench {
 public:
  MediaBench(Package& package, const ModelConfig& config, const Kernels& kernels, ThreadPool& pool,
             const BenchOptions& options, const Probe& probe, BenchReport& report)
      : towers_(TowerContext{&package, &kernels, &pool, &config}), kernels_(kernels), pool_(pool), options_(options),
        probe_(probe), report_(report) {}

  Status picture(int64_t size) {
    NESTLING_TRY_VOID(towers_.vision.modality().require(fmt::format("--image-size {}", size)));
    NESTLING_TRY_VOID(towers_.vision.load());
    std::vector<float> pixels(static_cast<size_t>(size * size * 3));
    for (size_t i = 0; i < pixels.size(); ++i) pixels[i] = static_cast<float>(i * 2654435761u % 256) / 255.0f;
    return measure(fmt::format("picture {}", size), static_cast<double>(towers_.vision.multiply_adds(size)), 0,
                   [&]() -> Status {
                     NESTLING_TRY([[maybe_unused]] const auto rows, towers_.vision.encode(pixels, size));
                     return {};
                   });
  }

  Status sound(double seconds, AudioWeights weights) {
    NESTLING_TRY_VOID(towers_.sound.modality().require(fmt::format("--audio-seconds {}", seconds)));
    towers_.sound.release();
    NESTLING_TRY_VOID(towers_.sound.load(weights));
    const std::vector<float> samples = sweep(seconds);
    const int64_t frames = mel_frame_count(static_cast<int64_t>(samples.size()));
    const char* how = weights == AudioWeights::kStreamed ? ", layers from storage" : "";
    return measure(fmt::format("sound {:g} s{}", seconds, how), static_cast<double>(towers_.sound.multiply_adds(frames)),
                   seconds, [&]() -> Status {
                     Sound::Listener listener(towers_.sound);
                     NESTLING_TRY_VOID(listener.push(samples));
                     NESTLING_TRY([[maybe_unused]] const auto rows, listener.finish());
                     return {};
                   });
  }

 private:
  // The first run maps the weights and is told by itself; memory is that of the second, which finds them mapped.
  template <typename Body>
  Status measure(const std::string& what, double multiply_adds, double seconds, Body body) {
    NESTLING_TRY(const double first, milliseconds_of(body));
    reset_peak_resident_bytes();
    const uint64_t before = resident_bytes();
    NESTLING_TRY_VOID(body());
    const uint64_t peak = peak_resident_bytes(), extra = peak > before ? peak - before : 0;
    std::vector<double> times, rates, ceilings, shares, factors;
    for (int64_t run = 0; run < options_.repeat; ++run) {
      if (interrupted()) return fail(ErrorCode::kCancelled, "interrupted");
      const double ceiling = probe_.int8(kernels_, pool_);
      NESTLING_TRY(const double ms, milliseconds_of(body));
      times.push_back(ms);
      ceilings.push_back((ceiling + probe_.int8(kernels_, pool_)) / 2);
      rates.push_back(multiply_adds / ms / 1e6);
      shares.push_back(rates.back() / ceilings.back());
      factors.push_back(ms / 1e3 / seconds);
      pool_.park();
    }
    report_.measurements.push_back({.size = {}, .what = what, .unit = "ms", .value = spread_of(times),
                                    .ceiling_name = "int8 peak", .ceiling_unit = "GMAC/s",
                                    .rate = spread_of(rates).median, .ceiling = spread_of(ceilings).median,
                                    .share = spread_of(shares)});
    if (seconds > 0) add(what + ", real-time factor", "", factors);
    add(what + ", first", "ms", {first});
    add(what + ", extra memory", "MB", {static_cast<double>(extra) / 1e6});
    return {};
  }

  void add(const std::string& what, const char* unit, std::vector<double> values) {
    report_.measurements.push_back({.size = {}, .what = what, .unit = unit, .value = spread_of(std::move(values))});
  }

  Towers towers_;
  const Kernels& kernels_;
  ThreadPool& pool_;
  const BenchOptions& options_;
  const Probe& probe_;
  BenchReport& report_;
};

// "i8", of the first product of a tower.
std::string tower_type(const Package& package) {
  for (const PackageTensor& tensor : package.tensors())
    if ((tensor.region == Region::kVision || tensor.region == Region::kAudio) && tensor.layout == Layout::kIl16 &&
        !tensor.name.starts_with("mm."))
      return std::string(weight_type_name(tensor.type));
  return "none";
}

}  // namespace

Status measure_media(const std::filesystem::path& path, const BenchOptions& options, const Probe& probe,
                     BenchReport& report) {
  NESTLING_TRY(const Kernels kernels, Kernels::choose());
  NESTLING_TRY(Package package, Package::open(path));
  NESTLING_TRY(const ModelConfig config, config_from_json(package.info().config_json, path.string()));
  report.weights = "towers " + tower_type(package);
  ThreadPool pool(report.machine.threads, report.machine.threads <= available_core_count());
  MediaBench bench(package, config, kernels, pool, options, probe, report);
  for (const int64_t size : options.image_sizes) NESTLING_TRY_VOID(bench.picture(size));
  for (const int64_t seconds : options.audio_seconds)
    for (const AudioWeights weights : {AudioWeights::kResident, AudioWeights::kStreamed})
      NESTLING_TRY_VOID(bench.sound(static_cast<double>(seconds), weights));
  return {};
}

}  // namespace nestling
