// Cumulative group norm (transformers: Gemma3nAudioCumulativeGroupNorm): one group of all bins and channels, with the
// mean and variance of everything since the clip began. A frame's result depends on the frames before it only.
#pragma once

#include <cstdint>

namespace nestling {

// Sums of one frame of F bins and C channels.
struct FrameSums {
  double values = 0, squares = 0;
};

// x [count]
FrameSums frame_sums(const float* x, int64_t count);

// Mean and scale of one frame.
struct FrameNorm {
  float mean = 0, scale = 0;  // scale: 1 / sqrt(variance + eps)
};

// The statistics since the clip began. The squared distances of a frame are taken from the mean as it was at that
// frame: their sum over all frames is not the variance around the present mean. Sums are double: 30 s are 12 million values.
class CumulativeStatistics {
 public:
  // The norm of the next frame, of `count` values with `sums`.
  FrameNorm advance(const FrameSums& sums, int64_t count, float eps);

 private:
  double sum_ = 0, squared_distances_ = 0;
  int64_t count_ = 0;
};

// y = max(0, (x - mean) * scale * weight[channel]) for x [bins][channels]; y may be x.
void normalize_and_rectify(const float* x, const FrameNorm& norm, const float* weight, int64_t bins, int64_t channels,
                           float* y);

}  // namespace nestling
