#include "model/audio/cumulative_group_norm.h"

#include <algorithm>
#include <cmath>

namespace nestling {

FrameSums frame_sums(const float* x, int64_t count) {
  constexpr int64_t kLanes = 8;
  double values[kLanes] = {}, squares[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    for (int64_t k = 0; k < kLanes; ++k) {
      const double v = x[i + k];
      values[k] += v;
      squares[k] += v * v;
    }
  }
  FrameSums sums;
  for (; i < count; ++i) {
    sums.values += x[i];
    sums.squares += static_cast<double>(x[i]) * x[i];
  }
  for (int64_t k = 0; k < kLanes; ++k) {
    sums.values += values[k];
    sums.squares += squares[k];
  }
  return sums;
}

FrameNorm CumulativeStatistics::advance(const FrameSums& sums, int64_t count, float eps) {
  sum_ += sums.values;
  count_ += count;
  const double n = static_cast<double>(count_), mean = sum_ / n;
  // sum of (x - mean)^2 over the frame
  squared_distances_ += sums.squares - 2 * mean * sums.values + static_cast<double>(count) * mean * mean;
  const double variance = std::max(squared_distances_ / n, 0.0);
  return {static_cast<float>(mean), static_cast<float>(1 / std::sqrt(variance + static_cast<double>(eps)))};
}

void normalize_and_rectify(const float* x, const FrameNorm& norm, const float* weight, int64_t bins, int64_t channels,
                           float* y) {
  for (int64_t f = 0; f < bins; ++f)
    for (int64_t c = 0; c < channels; ++c) {
      const int64_t i = f * channels + c;
      y[i] = std::max(0.0f, (x[i] - norm.mean) * norm.scale * weight[c]);
    }
}

}  // namespace nestling
