#include "model/vision/depthwise.h"

#include <random>
#include <vector>

#include <gtest/gtest.h>

#include "model/vision/gather.h"

namespace nestling {
namespace {

// TensorFlow's SAME: what is left over lies after the last pixel.
TEST(Depthwise, SamePadding) {
  for (const int64_t side : {8, 24, 48, 96, 384}) {
    EXPECT_EQ(same_padding_before(side, 3, 1), 1);
    EXPECT_EQ(same_padding_before(side, 5, 1), 2);
    EXPECT_EQ(same_padding_before(side, 3, 2), 0);
    EXPECT_EQ(same_padding_before(side, 5, 2), 1);
    EXPECT_EQ(strided_side(side, 2), side / 2);
  }
  EXPECT_EQ(same_padding_before(9, 3, 2), 1);
  EXPECT_EQ(strided_side(9, 2), 5);
  EXPECT_EQ(same_padding_before(8, 1, 2), 0);
}

struct Case {
  int64_t side, kernel, stride, channels;
};

struct Data {
  explicit Data(const Case& c) : in(static_cast<size_t>(c.side * c.side * c.channels)),
                                 weights(static_cast<size_t>(c.kernel * c.kernel * (c.channels + 1))) {
    std::mt19937 random(5);
    std::uniform_real_distribution<float> uniform(-1, 1);
    for (float& v : in) v = uniform(random);
    for (float& v : weights) v = uniform(random);
  }
  std::vector<float> in, weights;
};

double expected(const Case& c, const Data& d, int64_t y, int64_t x, int64_t channel) {
  double sum = 0;
  for (int64_t ky = 0; ky < c.kernel; ++ky)
    for (int64_t kx = 0; kx < c.kernel; ++kx) {
      const int64_t row = y * c.stride + ky - same_padding_before(c.side, c.kernel, c.stride);
      const int64_t col = x * c.stride + kx - same_padding_before(c.side, c.kernel, c.stride);
      if (row < 0 || row >= c.side || col < 0 || col >= c.side) continue;
      sum += static_cast<double>(d.in[static_cast<size_t>((row * c.side + col) * c.channels + channel)]) *
             d.weights[static_cast<size_t>((ky * c.kernel + kx) * (c.channels + 1) + channel)];
    }
  return sum;
}

TEST(Depthwise, EqualsItsDefinitionAtEveryPixel) {
  for (const Case& c : {Case{8, 3, 1, 7}, Case{8, 5, 1, 64}, Case{8, 3, 2, 70}, Case{10, 5, 2, 8}, Case{9, 3, 2, 5},
                        Case{4, 7, 1, 3}, Case{2, 5, 2, 33}}) {
    const Data d(c);
    const Depthwise conv{.kernel = c.kernel, .stride = c.stride, .channels = c.channels,
                         .weight_stride = c.channels + 1, .weight = d.weights.data()};
    const FeatureMap in{const_cast<float*>(d.in.data()), c.side, c.channels};
    const int64_t out_side = strided_side(c.side, c.stride);
    // In two parts that meet inside a row.
    std::vector<float> out(static_cast<size_t>(out_side * out_side * c.channels));
    const int64_t first = out_side * out_side / 2 + (out_side > 1 ? 1 : 0);
    conv.run(in, 0, first, out.data());
    conv.run(in, first, out_side * out_side - first, out.data() + first * c.channels);
    for (int64_t i = 0; i < out_side * out_side; ++i)
      for (int64_t channel = 0; channel < c.channels; ++channel)
        ASSERT_NEAR(out[static_cast<size_t>(i * c.channels + channel)],
                    expected(c, d, i / out_side, i % out_side, channel), 1e-5)
            << "side " << c.side << " kernel " << c.kernel << " stride " << c.stride << " pixel " << i;
  }
}

// One pixel of the map is 1: which windows it is in, and where.
TEST(GatherWindows, AnImpulseLiesWhereItBelongs) {
  constexpr int64_t kSide = 6, kChannels = 2;
  std::vector<float> map(kSide * kSide * kChannels);
  map[(3 * kSide + 4) * kChannels + 1] = 1;
  const FeatureMap in{map.data(), kSide, kChannels};
  for (const int64_t stride : {1, 2}) {
    const int64_t out_side = strided_side(kSide, stride), before = stride == 1 ? 1 : 0;
    std::vector<float> windows(static_cast<size_t>(out_side * out_side * 9 * kChannels), 7.0f);
    gather_windows(in, stride, 0, out_side * out_side, windows.data());
    for (int64_t i = 0; i < out_side * out_side; ++i)
      for (int64_t k = 0; k < 9 * kChannels; ++k) {
        const int64_t y = i / out_side * stride + k / kChannels / 3 - before;
        const int64_t x = i % out_side * stride + k / kChannels % 3 - before;
        const float want = y == 3 && x == 4 && k % kChannels == 1 ? 1 : 0;
        ASSERT_EQ(windows[static_cast<size_t>(i * 9 * kChannels + k)], want) << stride << " " << i << " " << k;
      }
  }
}

}  // namespace
}  // namespace nestling
