#include "media/mel.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>

#include "base/check.h"
#include "base/checked.h"

namespace nestling {
namespace {

constexpr int64_t kFftLength = 1024;
constexpr int64_t kSpectrumBins = kFftLength / 2 + 1;
constexpr int64_t kPadMultiple = 128;     // samples
constexpr int64_t kShortestClip = 640;    // the first multiple of 128 that holds a frame
constexpr int64_t kUnfoldLength = kMelFrameLength + 1;  // the extra sample is never read but decides the frame count
constexpr float kPreemphasis = 0.97f;
constexpr double kLowestHz = 125.0, kHighestHz = 7600.0;
constexpr double kMelFloor = 1e-5;

double hertz_to_mel(double hertz) { return 2595.0 * std::log10(1.0 + hertz / 700.0); }
double mel_to_hertz(double mel) { return 700.0 * (std::pow(10.0, mel / 2595.0) - 1.0); }

int64_t padded_length(int64_t samples) {
  return samples == 0 ? 0 : std::max(round_up(samples, kPadMultiple), kShortestClip);
}

int64_t frames_within(int64_t samples) {
  return samples < kUnfoldLength ? 0 : (samples - kUnfoldLength) / kMelHopLength + 1;
}

// cos(x) for 0 <= x <= 2 pi, to 1.5 units of the last place and with exactly the errors of NumPy's float32 cosine, from
// which transformers makes the window: where a pure tone leaves a mel bin empty, the last bits of the window are what
// the logarithm shows. Reduction by multiples of pi / 2 in three parts (Cody and Waite), then NumPy's polynomials.
float float32_cosine(float x) {
  constexpr float kRound = 0x1.8p+23f;  // adding it rounds to a whole number
  const float quadrant = std::fma(x, 2.0f / std::numbers::pi_v<float>, kRound) - kRound;
  float r = std::fma(quadrant, -0x1.921fb0p+00f, x);
  r = std::fma(quadrant, -0x1.5110b4p-22f, r);
  r = std::fma(quadrant, -0x1.846988p-48f, r);
  const float r2 = r * r;
  const bool odd = static_cast<int>(quadrant) % 2 != 0;
  float value = 0;
  if (odd) {  // +-sin(r)
    value = std::fma(0x1.7d3bbcp-19f, r2, -0x1.a06bbap-13f);
    value = std::fma(value, r2, 0x1.11119ap-07f);
    value = std::fma(value, r2, -0x1.555556p-03f) * r2;
    value = std::fma(value, r, r);
  } else {  // +-cos(r)
    value = std::fma(0x1.98e616p-16f, r2, -0x1.6c06dcp-10f);
    value = std::fma(value, r2, 0x1.55553cp-05f);
    value = std::fma(value, r2, -0.5f);
    value = std::fma(value, r2, 1.0f);
  }
  const int turn = static_cast<int>(quadrant) % 4;
  return turn == 1 || turn == 2 ? -value : value;
}

std::span<const float, kMelFrameLength> frame_at(std::span<const float> samples, int64_t frame) {
  return samples.subspan(static_cast<size_t>(frame * kMelHopLength)).first<kMelFrameLength>();
}

}  // namespace

int64_t mel_frame_count(int64_t samples) { return frames_within(padded_length(samples)); }

MelFrontEnd::MelFrontEnd(int64_t bins) : bins_(bins), fft_(kFftLength), window_(kMelFrameLength) {
  NESTLING_CHECK_LE(1, bins);
  for (size_t i = 0; i < window_.size(); ++i) {
    const float phase = 2.0f * std::numbers::pi_v<float> * static_cast<float>(i) / static_cast<float>(kMelFrameLength);
    window_[i] = 0.5f * (1.0f - float32_cosine(phase));
  }
  // Corners of the triangles, evenly spaced in mel, and triangles that are linear in hertz with a peak of 1.
  std::vector<double> corners(static_cast<size_t>(bins + 2));
  const double lowest = hertz_to_mel(kLowestHz), highest = hertz_to_mel(kHighestHz);
  for (size_t i = 0; i < corners.size(); ++i)
    corners[i] = mel_to_hertz(lowest + (highest - lowest) * static_cast<double>(i) / static_cast<double>(bins + 1));
  constexpr double kBinHz = static_cast<double>(kAudioSampleRate) / static_cast<double>(kFftLength);
  filters_.resize(static_cast<size_t>(bins));
  for (size_t m = 0; m < filters_.size(); ++m) {
    const double left = corners[m], peak = corners[m + 1], right = corners[m + 2];
    for (int64_t b = 0; b < kSpectrumBins; ++b) {
      const double hertz = static_cast<double>(b) * kBinHz;
      const double weight = std::min((hertz - left) / (peak - left), (right - hertz) / (right - peak));
      if (weight <= 0) continue;
      if (filters_[m].weights.empty()) filters_[m].first_bin = b;
      filters_[m].weights.push_back(weight);
    }
  }
}

void MelFrontEnd::append_frame(std::span<const float, kMelFrameLength> samples, std::vector<float>& values) const {
  // Pre-emphasis and windowing are float32 in transformers, and their rounding shows in empty bins too.
  std::array<double, kFftLength> windowed{};
  windowed[0] = (1.0f - kPreemphasis) * samples[0] * window_[0];
  for (size_t i = 1; i < static_cast<size_t>(kMelFrameLength); ++i) {
    const float emphasized = samples[i] - kPreemphasis * samples[i - 1];
    windowed[i] = emphasized * window_[i];
  }
  std::array<std::complex<double>, kSpectrumBins> spectrum;
  fft_.forward(windowed, spectrum);
  std::array<double, kSpectrumBins> magnitude;
  for (size_t b = 0; b < magnitude.size(); ++b) {
    const double re = spectrum[b].real(), im = spectrum[b].imag();
    magnitude[b] = std::sqrt(re * re + im * im);
  }
  for (const Filter& filter : filters_) {
    double sum = 0;
    for (size_t i = 0; i < filter.weights.size(); ++i)
      sum += filter.weights[i] * magnitude[static_cast<size_t>(filter.first_bin) + i];
    values.push_back(static_cast<float>(std::log(std::max(sum, kMelFloor))));
  }
}

LogMel MelFrontEnd::extract(std::span<const float> samples, const MelPadding& padding) const {
  const auto count = static_cast<int64_t>(samples.size());
  const int64_t length = padded_length(std::max(count, padding.batch_samples));
  const int64_t first = padding.side == PaddingSide::kLeft ? length - count : 0;  // of the real samples
  std::vector<float> padded(static_cast<size_t>(length));
  std::copy(samples.begin(), samples.end(), padded.begin() + first);

  LogMel mel;
  mel.frames = frames_within(length);
  mel.values.reserve(static_cast<size_t>(mel.frames * bins_));
  for (int64_t t = 0; t < mel.frames; ++t) {
    const int64_t start = t * kMelHopLength;
    append_frame(frame_at(padded, t), mel.values);
    mel.mask.push_back(start >= first && start < first + count);
  }
  return mel;
}

void MelStream::append_frames(LogMel& out) {
  const int64_t complete = frames_within(static_cast<int64_t>(pending_.size()));
  for (int64_t t = 0; t < complete; ++t) {
    front_end_.append_frame(frame_at(pending_, t), out.values);
    out.mask.push_back(1);
  }
  out.frames += complete;
  pending_.erase(pending_.begin(), pending_.begin() + complete * kMelHopLength);
}

void MelStream::push(std::span<const float> samples, LogMel& out) {
  pending_.insert(pending_.end(), samples.begin(), samples.end());
  received_ += static_cast<int64_t>(samples.size());
  append_frames(out);
}

void MelStream::finish(LogMel& out) {
  pending_.resize(pending_.size() + static_cast<size_t>(padded_length(received_) - received_));
  append_frames(out);
}

}  // namespace nestling
