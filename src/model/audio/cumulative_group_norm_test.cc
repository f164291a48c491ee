#include "model/audio/cumulative_group_norm.h"

#include <cmath>
#include <random>
#include <vector>

#include <gtest/gtest.h>

namespace nestling {
namespace {

// Frames (1, 3) and (5, 7) of one bin and two channels, weights 1 and 2, eps 0. The mean is 2, then 4; the squared
// distances add up to 2 from the first mean and 1 + 9 from the second: 12 / 4 = 3. The variance of all four is 5.
TEST(CumulativeGroupNorm, DistancesAreFromTheMeanOfTheirTime) {
  const float weight[] = {1, 2};
  CumulativeStatistics statistics;
  std::vector<float> out;
  for (const auto& frame : {std::vector<float>{1, 3}, std::vector<float>{5, 7}}) {
    const FrameNorm norm = statistics.advance(frame_sums(frame.data(), 2), 2, 0);
    for (int c = 0; c < 2; ++c) out.push_back((frame[static_cast<size_t>(c)] - norm.mean) * norm.scale * weight[c]);
    std::vector<float> rectified(2);
    normalize_and_rectify(frame.data(), norm, weight, 1, 2, rectified.data());
    for (size_t c = 0; c < 2; ++c) EXPECT_EQ(rectified[c], std::max(0.0f, out[out.size() - 2 + c]));
  }
  const float root = 1 / std::sqrt(3.0f);
  const float expected[] = {-1, 2, root, 6 * root};
  for (size_t i = 0; i < 4; ++i) EXPECT_FLOAT_EQ(out[i], expected[i]) << i;
}

// A recording of an hour far from zero: single-precision sums would lose the variance.
TEST(CumulativeGroupNorm, LongClipsKeepTheirVariance) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal(100, 0.5f);
  std::vector<float> frame(1024);
  CumulativeStatistics statistics;
  FrameNorm norm;
  for (float& v : frame) v = normal(random);
  for (int t = 0; t < 90'000; ++t) norm = statistics.advance(frame_sums(frame.data(), 1024), 1024, 1e-3f);
  double mean = 0, variance = 0;
  for (const float v : frame) mean += v / 1024.0;
  for (const float v : frame) variance += (v - mean) * (v - mean) / 1024;
  EXPECT_NEAR(norm.mean, mean, 1e-4);
  EXPECT_NEAR(norm.scale, 1 / std::sqrt(variance + 1e-3), 1e-4);
}

TEST(CumulativeGroupNorm, EqualValuesAreZero) {
  const std::vector<float> frame(9, -11.512925f);
  const float weight[] = {1, 1, 1};
  CumulativeStatistics statistics;
  const FrameNorm norm = statistics.advance(frame_sums(frame.data(), 9), 9, 1e-3f);
  std::vector<float> out(9, 1);
  normalize_and_rectify(frame.data(), norm, weight, 3, 3, out.data());
  for (const float v : out) EXPECT_EQ(v, 0);
}

}  // namespace
}  // namespace nestling
