#include "model/tower_tensor.h"

#include <numeric>

#include <gtest/gtest.h>

namespace nestling {
namespace {

std::vector<float> reordered(Reorder order, const std::vector<int64_t>& shape) {
  int64_t count = 1;
  for (const int64_t n : shape) count *= n;
  std::vector<float> values(static_cast<size_t>(count)), out(values.size());
  std::iota(values.begin(), values.end(), 0.0f);
  reorder(order, shape, values.data(), out.data());
  return out;
}

TEST(TowerTensor, ConvolutionPutsInputChannelsInnermost) {
  // [out 2][in 2][1][3]: value = 6 out + 3 in + k
  EXPECT_EQ(reordered(Reorder::kConvolution, {2, 2, 1, 3}),
            (std::vector<float>{0, 3, 1, 4, 2, 5, 6, 9, 7, 10, 8, 11}));
}

TEST(TowerTensor, DepthwisePutsChannelsInnermost) {
  EXPECT_EQ(reordered(Reorder::kDepthwise, {3, 1, 2}), (std::vector<float>{0, 2, 4, 1, 3, 5}));
  EXPECT_EQ(reordered(Reorder::kDepthwise, {2, 1, 2, 2}), (std::vector<float>{0, 4, 1, 5, 2, 6, 3, 7}));
}

TEST(TowerTensor, NoneKeepsTheOrder) { EXPECT_EQ(reordered(Reorder::kNone, {1, 3}), (std::vector<float>{0, 1, 2})); }

}  // namespace
}  // namespace nestling
