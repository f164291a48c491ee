#include "model/audio/relative_position.h"

#include <cmath>

#include <gtest/gtest.h>

#include "base/aligned.h"
#include "kernels/pack.h"

namespace nestling {
namespace {

// The identity as W_pos gives the embeddings of the distances.
TEST(RelativePositions, SinesThenCosinesOfTheDistance) {
  constexpr int64_t kWidth = 8;
  std::vector<float> identity(kWidth * kWidth);
  for (int64_t i = 0; i < kWidth; ++i) identity[static_cast<size_t>(i * kWidth + i)] = 1;
  const AlignedBuffer memory(packed_bytes(WeightType::kF32, Layout::kIl16, kWidth, kWidth));
  pack_matrix(WeightType::kF32, Layout::kIl16, kWidth, kWidth, identity.data(), memory.data());
  const WeightMatrix w{WeightType::kF32, Layout::kIl16, kWidth, kWidth, kWidth, kWidth, memory.data(), memory.size()};
  const std::vector<float> r = relative_positions(w, 13);
  ASSERT_EQ(r.size(), 13u * kWidth);
  for (int p = 0; p < 13; ++p)
    for (int i = 0; i < 4; ++i) {
      const double angle = p * std::pow(10'000.0, -i / 3.0);  // 8 / 2 - 1
      EXPECT_NEAR(r[static_cast<size_t>(p * kWidth + i)], std::sin(angle), 1e-5) << p << " " << i;
      EXPECT_NEAR(r[static_cast<size_t>(p * kWidth + 4 + i)], std::cos(angle), 1e-5) << p << " " << i;
    }
}

}  // namespace
}  // namespace nestling
