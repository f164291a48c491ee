#include "importing/gguf_blocks.h"

#include <array>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "importing/test_gguf.h"
#include "kernels/pack.h"

namespace nestling {
namespace {

using testing::Each;

std::vector<std::byte> encoded(GgmlType type, const std::vector<float>& values) {
  std::vector<std::byte> bytes(values.size() / ggml_block_size(type) * ggml_block_bytes(type));
  EXPECT_TRUE(encode_ggml(type, values, bytes.data()));
  return bytes;
}

TEST(GgufBlocks, Q4_0ByHand) {
  std::vector<float> values(32, 0.0f);
  values[0] = -4.0f;  // d = 0.5, code -8
  values[1] = 3.5f;   // 7
  values[16] = 0.5f;  // 1
  values[31] = -0.5f; // -1
  const auto bytes = encoded(GgmlType::kQ4_0, values);
  ASSERT_EQ(bytes.size(), 18u);
  EXPECT_EQ(byte_at(bytes.data(), 0), 0x00);
  EXPECT_EQ(byte_at(bytes.data(), 1), 0x38);  // 0.5 in f16
  EXPECT_EQ(byte_at(bytes.data(), 2), 0x90);  // weights 0 and 16: codes 0 and 9 with 8 added
  EXPECT_EQ(byte_at(bytes.data(), 3), 0x8f);  // weights 1 and 17
  EXPECT_EQ(byte_at(bytes.data(), 4), 0x88);
  EXPECT_EQ(byte_at(bytes.data(), 17), 0x78);  // weights 15 and 31
}

TEST(GgufBlocks, Q8_0ByHand) {
  std::vector<float> values(32, 0.0f);
  values[2] = -127.0f;
  values[31] = 5.0f;
  const auto bytes = encoded(GgmlType::kQ8_0, values);
  ASSERT_EQ(bytes.size(), 34u);
  EXPECT_EQ(byte_at(bytes.data(), 0), 0x00);
  EXPECT_EQ(byte_at(bytes.data(), 1), 0x3c);  // 1.0
  EXPECT_EQ(byte_at(bytes.data(), 4), 0x81);
  EXPECT_EQ(byte_at(bytes.data(), 33), 5);
}

// Weights that a package holds are found again whatever scale made them, subnormal and negative ones included.
TEST(GgufBlocks, PackedWeightsStayTheSame) {
  std::mt19937 random(1);
  for (const auto& [stored, type] : {std::pair(WeightType::kQ4, GgmlType::kQ4_0), {WeightType::kQ8, GgmlType::kQ8_0},
                                     {WeightType::kQ6, GgmlType::kQ8_0}}) {
    for (int round = 0; round < 2000; ++round) {
      std::vector<float> values(32);
      const float size = std::pow(2.0f, static_cast<float>(random() % 30) - 24.0f);
      for (float& value : values) value = size * std::normal_distribution<float>()(random);
      std::vector<std::byte> packed(packed_bytes(stored, Layout::kRows, 1, 32));
      pack_matrix(stored, Layout::kRows, 1, 32, values.data(), packed.data());
      unpack_stored_row(stored, 32, packed.data(), values.data());
      ASSERT_EQ(decode_ggml(type, encoded(type, values)), values) << weight_type_name(stored) << " round " << round;
    }
  }
}

TEST(GgufBlocks, CodesOfACoarserScale) {
  std::vector<float> values(32, 6.0f);  // any of 1 x 6, 2 x 3, 3 x 2
  values[3] = -3.0f;
  EXPECT_EQ(decode_ggml(GgmlType::kQ4_0, encoded(GgmlType::kQ4_0, values)), values);
}

TEST(GgufBlocks, ZerosAreZeros) {
  for (const GgmlType type : {GgmlType::kQ4_0, GgmlType::kQ8_0, GgmlType::kQ6_K})
    EXPECT_THAT(decode_ggml(type, encoded(type, std::vector<float>(ggml_block_size(type)))), Each(0.0f));
  // What an export leaves unwritten: zero bytes.
  for (const GgmlType type : {GgmlType::kQ4_0, GgmlType::kQ8_0, GgmlType::kQ6_K})
    EXPECT_THAT(decode_ggml(type, std::vector<std::byte>(ggml_block_bytes(type))), Each(0.0f));
}

TEST(GgufBlocks, RefusesWhatATypeCannotHold) {
  std::array<std::byte, 210> out;
  std::vector<float> values(256, 1.0f);
  values[5] = 0.3f;
  EXPECT_FALSE(encode_ggml(GgmlType::kQ4_0, std::span(values).first(32), out.data()));
  EXPECT_FALSE(encode_ggml(GgmlType::kQ8_0, std::span(values).first(32), out.data()));
  EXPECT_FALSE(encode_ggml(GgmlType::kBF16, std::span(values).subspan(5, 1), out.data()));
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()})
    for (const GgmlType type : {GgmlType::kQ4_0, GgmlType::kQ8_0, GgmlType::kQ6_K}) {
      values[5] = bad;
      EXPECT_FALSE(encode_ggml(type, std::span(values).first(ggml_block_size(type)), out.data()))
          << ggml_type_name(type) << " " << bad;
      std::vector<float> zeros(256);
      zeros[5] = bad;
      EXPECT_FALSE(encode_ggml(type, std::span(zeros).first(ggml_block_size(type)), out.data()));
    }
}

// Half a step of 31, and a little for scales that are rounded and need not be those of the largest weight.
TEST(GgufBlocks, Q6_KIsCloseToTheValues) {
  std::mt19937 random(2);
  for (int round = 0; round < 200; ++round) {
    std::vector<float> values(256);
    for (float& value : values) value = 0.02f * std::normal_distribution<float>()(random);
    const auto restored = decode_ggml(GgmlType::kQ6_K, encoded(GgmlType::kQ6_K, values));
    for (int i = 0; i < 256; ++i) {
      float largest = 0;
      for (int j = i / 16 * 16; j < i / 16 * 16 + 16; ++j) largest = std::max(largest, std::fabs(values[j]));
      ASSERT_NEAR(restored[i], values[i], 0.7f * largest / 31) << "round " << round << " weight " << i;
    }
  }
}

// Codes and scales that the format holds exactly are found: the layout of all 256 codes is checked by it.
TEST(GgufBlocks, Q6_KFindsItsOwnCodes) {
  std::vector<float> values(256);
  for (int i = 0; i < 256; ++i) {
    const int code = i % 16 == 0 ? -32 : (i * 37 + i / 16) % 64 - 32;
    const int scale = -128 + i / 16 * 3;  // the largest is -128
    values[i] = 0x1p-10f * static_cast<float>(scale * code);
  }
  EXPECT_EQ(decode_ggml(GgmlType::kQ6_K, encoded(GgmlType::kQ6_K, values)), values);
}

}  // namespace
}  // namespace nestling
