#include "kernels/pack.h"

#include <cmath>
#include <random>
#include <tuple>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/block_codes.h"
#include "tensor/float_types.h"

namespace nestling {
namespace {

constexpr WeightType kTypes[] = {WeightType::kF32, WeightType::kBF16, WeightType::kQ8, WeightType::kQ6,
                                 WeightType::kQ4};
constexpr Layout kLayouts[] = {Layout::kRows, Layout::kIl16, Layout::kIl16Tiled, Layout::kLaneRows,
                               Layout::kInputMajor};

std::vector<float> random_values(int64_t count, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0.0f, 0.02f);
  std::vector<float> values(count);
  for (float& value : values) value = normal(random);
  return values;
}

WeightMatrix pack(WeightType type, Layout layout, int64_t rows, int64_t cols, const std::vector<float>& values,
                  std::vector<std::byte>& bytes) {
  bytes.assign(packed_bytes(type, layout, rows, cols), std::byte{0xee});
  pack_matrix(type, layout, rows, cols, values.data(), bytes.data());
  return {type, layout, rows, cols, rows, cols, bytes.data(), bytes.size()};
}

double squared_error(const std::vector<float>& a, const std::vector<float>& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += std::pow(static_cast<double>(a[i]) - b[i], 2);
  return sum;
}

TEST(Pack, EveryLayoutHoldsTheSameWeights) {
  for (const auto& [rows, cols] : {std::pair<int64_t, int64_t>{1, 1}, {5, 31}, {16, 32}, {17, 96}, {40, 130}, {3, 700},
                                   {33, 2048}, {18, 2144}, {20, 4200}}) {
    const std::vector<float> values = random_values(rows * cols, 7);
    for (WeightType type : kTypes) {
      std::vector<std::byte> bytes;
      std::vector<float> expected(rows * cols);
      unpack_matrix(pack(type, Layout::kRows, rows, cols, values, bytes), expected.data());
      for (Layout layout : kLayouts) {
        std::vector<float> found(rows * cols, NAN);
        unpack_matrix(pack(type, layout, rows, cols, values, bytes), found.data());
        EXPECT_EQ(found, expected) << weight_type_name(type) << " " << layout_name(layout) << " " << rows << "x"
                                   << cols;
      }
    }
  }
}

TEST(Pack, ErrorIsBoundedByTheStep) {
  const std::vector<float> values = random_values(64 * 256, 3);
  double power = 0;
  for (float v : values) power += v * static_cast<double>(v);
  // Relative rms of a normal distribution in blocks of 32; a plain max / -8 scale gives 0.094 for q4.
  for (const auto& [type, limit] : {std::pair{WeightType::kF32, 0.0},
                                    {WeightType::kBF16, 0.002},
                                    {WeightType::kQ8, 0.006},
                                    {WeightType::kQ6, 0.021},
                                    {WeightType::kQ4, 0.086}}) {
    std::vector<std::byte> bytes;
    std::vector<float> found(values.size());
    unpack_matrix(pack(type, Layout::kIl16, 64, 256, values, bytes), found.data());
    EXPECT_LE(std::sqrt(squared_error(values, found) / power), limit) << weight_type_name(type);
  }
}

// Weights that were coded before, as Q4_0 and Q8_0 are, must come back without loss.
TEST(Pack, CodedValuesAreFoundAgain) {
  std::mt19937 random(5);
  for (const auto& [type, low, high] :
       {std::tuple{WeightType::kQ4, -8, 7}, {WeightType::kQ6, -32, 31}, {WeightType::kQ8, -127, 127}}) {
    std::vector<float> values(64 * 512);
    for (size_t block = 0; block < values.size() / 32; ++block) {
      const float scale = f16_to_f32(f32_to_f16((0.001f + 0.0001f * (random() % 100)) * (block % 2 == 0 ? 1 : -1)));
      const int peak = static_cast<int>(block) / 2 % 32;  // the largest magnitude in every place
      for (int i = 0; i < 32; ++i)
        values[32 * block + i] = scale * (i == peak ? low : low + static_cast<int>(random() % (high - low + 1)));
    }
    std::vector<std::byte> bytes;
    std::vector<float> found(values.size());
    unpack_matrix(pack(type, Layout::kIl16, 64, 512, values, bytes), found.data());
    EXPECT_TRUE(found == values) << weight_type_name(type);
  }
}

TEST(Pack, ExtremeBlocks) {
  for (WeightType type : {WeightType::kQ8, WeightType::kQ6, WeightType::kQ4}) {
    const float zeros[32] = {};
    EXPECT_EQ(encode_block(type, zeros, 32).scale, 0);
    float one[32] = {};
    one[9] = -0.75f;
    const BlockCodes spike = encode_block(type, one, 32);
    for (int i = 0; i < 32; ++i)
      EXPECT_NEAR(f16_to_f32(spike.scale) * spike.codes[i], one[i], 1e-3) << weight_type_name(type) << " " << i;
    float huge[32], tiny[32];
    for (int i = 0; i < 32; ++i) huge[i] = (i - 16) * 1e30f, tiny[i] = (i - 16) * 1e-42f;
    EXPECT_TRUE(std::isfinite(f16_to_f32(encode_block(type, huge, 32).scale)));
    EXPECT_EQ(encode_block(type, tiny, 32).scale, 0);
  }
}

TEST(Pack, PiecesOfSixteenRowsEqualTheWhole) {
  const int64_t rows = 40, cols = 160;
  const std::vector<float> values = random_values(rows * cols, 11);
  for (WeightType type : kTypes)
    for (Layout layout : {Layout::kRows, Layout::kIl16}) {
      std::vector<std::byte> whole, pieces, piece;
      pack(type, layout, rows, cols, values, whole);
      for (int64_t row = 0; row < rows; row += 16) {
        const int64_t count = std::min<int64_t>(16, rows - row);
        pack(type, layout, count, cols, {values.begin() + row * cols, values.begin() + (row + count) * cols}, piece);
        pieces.insert(pieces.end(), piece.begin(), piece.end());
      }
      EXPECT_EQ(whole, pieces) << weight_type_name(type) << " " << layout_name(layout);
    }
}

TEST(Pack, SingleRowsAndSlices) {
  const int64_t rows = 40, cols = 4160;
  const std::vector<float> values = random_values(rows * cols, 13);
  for (WeightType type : kTypes)
    for (Layout layout : kLayouts) {
      std::vector<std::byte> bytes;
      const WeightMatrix w = pack(type, layout, rows, cols, values, bytes);
      std::vector<float> whole(rows * cols);
      unpack_matrix(w, whole.data());
      const WeightMatrix slice = w.first_rows(24).first_cols(2080);
      std::vector<float> part(24 * 2080), row(2080);
      unpack_matrix(slice, part.data());
      for (int64_t r = 0; r < 24; ++r) {
        EXPECT_TRUE(std::equal(part.begin() + r * 2080, part.begin() + (r + 1) * 2080, whole.begin() + r * cols));
        if (layout == Layout::kInputMajor) continue;
        unpack_row(slice, r, row.data());
        EXPECT_TRUE(std::equal(row.begin(), row.end(), whole.begin() + r * cols));
      }
      if (layout != Layout::kRows) continue;
      std::vector<float> stored(cols);
      unpack_stored_row(type, cols, bytes.data() + 3 * rows_stride_bytes(type, cols), stored.data());
      EXPECT_TRUE(std::equal(stored.begin(), stored.end(), whole.begin() + 3 * cols));
    }
}

}  // namespace
}  // namespace nestling
