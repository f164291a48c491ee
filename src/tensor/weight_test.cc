#include "tensor/weight.h"

#include <gtest/gtest.h>

#include "tensor/layout.h"

namespace nestling {
namespace {

TEST(Weight, NamesGoBothWays) {
  for (WeightType type : {WeightType::kF32, WeightType::kBF16, WeightType::kQ8, WeightType::kQ6, WeightType::kQ4,
                          WeightType::kI8, WeightType::kI16})
    EXPECT_EQ(weight_type_from_name(weight_type_name(type)), type);
  EXPECT_FALSE(weight_type_from_name("q5"));
  EXPECT_EQ(layout_name(Layout::kIl16Tiled), "il16_tiled");
}

TEST(Weight, BytesOfTheRealShapes) {
  EXPECT_EQ(rows_stride_bytes(WeightType::kQ4, 7680), 4320u);   // a PLE row of E2B
  EXPECT_EQ(rows_stride_bytes(WeightType::kQ8, 8960), 9520u);   // and of E4B
  EXPECT_EQ(rows_stride_bytes(WeightType::kBF16, 7680), 15360u);
  EXPECT_EQ(packed_bytes(WeightType::kQ4, Layout::kIl16, 16, 64), 576u);
  EXPECT_EQ(packed_bytes(WeightType::kQ6, Layout::kIl16, 16, 64), 832u);
  EXPECT_EQ(packed_bytes(WeightType::kQ8, Layout::kIl16, 16, 64), 1088u);
  EXPECT_EQ(packed_bytes(WeightType::kQ4, Layout::kIl16, 17, 65), 4 * 576u);
  EXPECT_EQ(packed_bytes(WeightType::kBF16, Layout::kIl16, 16, 3), 128u);
  EXPECT_EQ(packed_bytes(WeightType::kQ4, Layout::kIl16Tiled, 2048, 16384),
            packed_bytes(WeightType::kQ4, Layout::kIl16, 2048, 16384));
  EXPECT_EQ(packed_bytes(WeightType::kQ4, Layout::kLaneRows, 1, 2048), 1152u);
  EXPECT_LE(packed_bytes(WeightType::kQ4, Layout::kLaneRows, 1, 96), 128u);
  EXPECT_EQ(packed_bytes(WeightType::kQ4, Layout::kInputMajor, 2048, 32), 4096u + 32 * 1024);
}

TEST(Weight, SizesBeyondTwoToThe31) {
  const int64_t rows = 262144, cols = 8960;  // the E4B PLE table
  EXPECT_EQ(packed_bytes(WeightType::kF32, Layout::kRows, rows, cols), 4ull * rows * cols);
  EXPECT_EQ(packed_bytes(WeightType::kQ8, Layout::kRows, rows, cols), 9520ull * rows);
}

// A narrower MatFormer width must be a prefix of the bytes.
TEST(Weight, PrefixesAreContiguous) {
  for (WeightType type : {WeightType::kBF16, WeightType::kQ8, WeightType::kQ6, WeightType::kQ4}) {
    const uint64_t half = packed_bytes(type, Layout::kIl16Tiled, 64, 4096);
    const WeightMatrix down{type, Layout::kIl16Tiled, 64, 8192, 64, 8192, nullptr, 0};
    EXPECT_EQ(tile_offset(down, 2), half);
    EXPECT_EQ(packed_bytes(type, Layout::kInputMajor, 64, 8192), 2 * packed_bytes(type, Layout::kInputMajor, 64, 4096));
  }
}

}  // namespace
}  // namespace nestling
