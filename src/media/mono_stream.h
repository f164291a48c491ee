// Sound of any rate and channel count to what the audio front end takes: mono, 16 kHz.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "media/resampler.h"

namespace nestling {

inline constexpr int64_t kMinSampleRate = 1'000, kMaxSampleRate = 768'000;  // Hz
inline constexpr int64_t kMaxChannels = 32;

// Samples in pieces: values are clamped to [-1, 1], channels averaged, the rate converted with a band limit. A value
// that is not a number is refused (kFailed).
class MonoStream {
 public:
  // `name` stands for the sound in errors.
  static Result<MonoStream> create(std::string_view name, int64_t rate, int64_t channels);

  // `interleaved` [frames][channels]; appends 16 kHz samples to `out`.
  Status push(std::span<const float> interleaved, std::vector<float>& out);
  Status finish(std::vector<float>& out);
  // Values beyond [-1, 1] so far.
  int64_t clipped_values() const { return clipped_; }

 private:
  MonoStream(std::string_view name, int64_t channels, Resampler resampler);
  std::string name_;
  size_t channels_;
  Resampler resampler_;
  std::vector<float> mono_;
  int64_t clipped_ = 0, frames_ = 0;
};

// Raw samples without a header, little-endian, channels interleaved: what recording programs write to a pipe.
struct PcmFormat {
  enum class Sample { kS16, kF32 };
  Sample sample = Sample::kS16;
  int64_t rate = 16'000;  // Hz
  int64_t channels = 1;
};

// Raw bytes in pieces of any length; bytes of a frame that never becomes whole are dropped at the end.
class PcmStream {
 public:
  static Result<PcmStream> create(std::string_view name, const PcmFormat& format);

  Status push(std::span<const std::byte> bytes, std::vector<float>& out);
  Status finish(std::vector<float>& out) { return mono_.finish(out); }
  int64_t clipped_values() const { return mono_.clipped_values(); }

 private:
  PcmStream(const PcmFormat& format, MonoStream mono) : format_(format), mono_(std::move(mono)) {}
  PcmFormat format_;
  MonoStream mono_;
  std::vector<std::byte> pending_;  // the start of a frame
};

}  // namespace nestling
