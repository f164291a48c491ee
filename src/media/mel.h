// The audio front end of Gemma 3n (transformers: Gemma3nAudioFeatureExtractor): mono 16 kHz samples to log-mel frames.
// Frames of 512 samples every 160, pre-emphasis 0.97 inside each frame, periodic Hann window, magnitude of a 1024-point
// FFT, HTK mel triangles from 125 to 7600 Hz, natural logarithm of at least 1e-5. No normalisation.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "media/fft.h"

namespace nestling {

inline constexpr int64_t kAudioSampleRate = 16'000;  // Hz
inline constexpr int64_t kMelFrameLength = 512;      // samples
inline constexpr int64_t kMelHopLength = 160;        // samples
inline constexpr int64_t kMelBins = 128;

enum class PaddingSide { kRight, kLeft };

// Zeros that are added to the samples: up to a multiple of 128, and to the length of the longest clip of a batch.
struct MelPadding {
  PaddingSide side = PaddingSide::kRight;  // the left is there to reproduce what transformers does on request
  int64_t batch_samples = 0;               // samples of the longest clip; 0 = the clip stands alone
};

struct LogMel {
  int64_t frames = 0;          // T
  std::vector<float> values;   // [T][bins]
  std::vector<uint8_t> mask;   // [T], 1 where the first sample of the frame is a real one, not padding
};

// Frames that `samples` samples give when padded on the right; 480,000 (30 s) give 2997. A clip of 1 to 512 samples,
// which transformers cannot handle, counts as 640; none gives 0.
int64_t mel_frame_count(int64_t samples);

class MelFrontEnd {
 public:
  explicit MelFrontEnd(int64_t bins = kMelBins);
  int64_t bins() const { return bins_; }

  // All frames of a clip. The mask of a clip padded on the right alone is all ones.
  LogMel extract(std::span<const float> samples, const MelPadding& padding = {}) const;

  // Appends one frame, [bins], to `values`.
  void append_frame(std::span<const float, kMelFrameLength> samples, std::vector<float>& values) const;

 private:
  struct Filter {
    int64_t first_bin = 0;
    std::vector<double> weights;  // of the FFT bins from first_bin on
  };
  int64_t bins_;
  RealFft fft_;
  std::vector<float> window_;
  std::vector<Filter> filters_;
};

// extract() for samples that arrive in pieces, with padding on the right: the same frames, bit for bit. A frame is
// given out as soon as it is known to exist, one sample after its last.
class MelStream {
 public:
  explicit MelStream(const MelFrontEnd& front_end) : front_end_(front_end) {}

  // Appends the frames that the new samples complete to `out`.
  void push(std::span<const float> samples, LogMel& out);
  // Pads and appends the last frames; nothing may follow.
  void finish(LogMel& out);

 private:
  void append_frames(LogMel& out);
  const MelFrontEnd& front_end_;
  std::vector<float> pending_;  // samples from the start of the next frame on
  int64_t received_ = 0;        // samples
};

}  // namespace nestling
