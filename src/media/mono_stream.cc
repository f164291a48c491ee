#include "media/mono_stream.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <utility>

#include "base/check.h"
#include "media/mel.h"

namespace nestling {

MonoStream::MonoStream(std::string_view name, int64_t channels, Resampler resampler)
    : name_(name), channels_(static_cast<size_t>(channels)), resampler_(std::move(resampler)) {}

Result<MonoStream> MonoStream::create(std::string_view name, int64_t rate, int64_t channels) {
  if (rate < kMinSampleRate || rate > kMaxSampleRate)
    return fail(ErrorCode::kFailed, "{}: {} samples per second; {} to {} are allowed", name, rate, kMinSampleRate,
                kMaxSampleRate);
  if (channels < 1 || channels > kMaxChannels)
    return fail(ErrorCode::kFailed, "{}: {} channels; 1 to {} are allowed", name, channels, kMaxChannels);
  NESTLING_TRY(Resampler resampler, Resampler::create(rate, kAudioSampleRate));
  return MonoStream(name, channels, std::move(resampler));
}

Status MonoStream::push(std::span<const float> interleaved, std::vector<float>& out) {
  NESTLING_CHECK_EQ(interleaved.size() % channels_, size_t{0});
  mono_.resize(interleaved.size() / channels_);
  for (size_t i = 0; i < mono_.size(); ++i) {
    float sum = 0;
    for (const float value : interleaved.subspan(i * channels_, channels_)) {
      if (!std::isfinite(value))
        return fail(ErrorCode::kFailed, "{}: sample {} is {}; a number from -1 to 1 is needed", name_,
                    frames_ + static_cast<int64_t>(i), value);
      if (std::abs(value) > 1.0f) ++clipped_;
      sum += std::clamp(value, -1.0f, 1.0f);
    }
    mono_[i] = sum / static_cast<float>(channels_);
  }
  frames_ += static_cast<int64_t>(mono_.size());
  return resampler_.push(mono_, out);
}

Status MonoStream::finish(std::vector<float>& out) { return resampler_.finish(out); }

Result<PcmStream> PcmStream::create(std::string_view name, const PcmFormat& format) {
  NESTLING_TRY(MonoStream mono, MonoStream::create(name, format.rate, format.channels));
  return PcmStream(format, std::move(mono));
}

Status PcmStream::push(std::span<const std::byte> bytes, std::vector<float>& out) {
  const size_t width = format_.sample == PcmFormat::Sample::kS16 ? 2 : 4;
  const size_t frame = width * static_cast<size_t>(format_.channels);
  pending_.insert(pending_.end(), bytes.begin(), bytes.end());
  const size_t whole = pending_.size() / frame * frame;
  std::vector<float> values(whole / width);
  for (size_t i = 0; i < values.size(); ++i) {
    uint32_t bits = 0;
    for (size_t b = 0; b < width; ++b) bits |= std::to_integer<uint32_t>(pending_[i * width + b]) << 8 * b;
    values[i] = width == 2 ? static_cast<float>(static_cast<int16_t>(bits)) / 32768.0f : std::bit_cast<float>(bits);
  }
  pending_.erase(pending_.begin(), pending_.begin() + static_cast<std::ptrdiff_t>(whole));
  return mono_.push(values, out);
}

}  // namespace nestling
