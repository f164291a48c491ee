#include "kernels/dense.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include <gtest/gtest.h>

#include "kernels/kernels_test_util.h"

namespace nestling::kernels_test {
namespace {

constexpr float kUntouched = -123.5f;
constexpr WeightType kDenseTypes[] = {WeightType::kI8, WeightType::kI16, WeightType::kF32, WeightType::kBF16};
constexpr WeightType kCodedTypes[] = {WeightType::kI8, WeightType::kI16};

// A product with everything at its default: rows that lie one after another, one thread.
struct Case {
  const WeightMatrix& w;
  const std::vector<float>& x;
  int64_t rows;
  int threads = 0;  // 0: the form without a pool
  int64_t padding = 0;  // floats between rows of x and of y
};

std::vector<float> product(const Kernels& kernels, const Case& c) {
  const int64_t cols = c.w.cols, x_stride = cols + c.padding, y_stride = c.w.rows + c.padding;
  std::vector<float> x(c.rows * x_stride, NAN), y(c.rows * y_stride, kUntouched);
  for (int64_t m = 0; m < c.rows; ++m) std::copy_n(c.x.begin() + m * cols, cols, x.begin() + m * x_stride);
  AlignedBuffer memory(DenseInput::bytes_needed(c.rows, 2 * cols));
  DenseInput input({memory.data(), memory.size()}, c.rows, cols);
  if (c.threads == 0) {
    input.assign(kernels, x.data(), c.rows, cols, x_stride, c.w.type);
    dense(kernels, input, c.w, y.data(), y_stride);
  } else {
    ThreadPool pool(c.threads, /*spin=*/false);
    input.assign(kernels, pool, x.data(), c.rows, cols, x_stride, c.w.type);
    dense(kernels, pool, input, c.w, y.data(), y_stride);
  }
  std::vector<float> out(c.rows * c.w.rows);
  for (int64_t m = 0; m < c.rows; ++m) {
    std::copy_n(y.begin() + m * y_stride, c.w.rows, out.begin() + m * c.w.rows);
    for (int64_t i = c.w.rows; i < y_stride; ++i) EXPECT_EQ(y[m * y_stride + i], kUntouched);
  }
  return out;
}

Packed pack_il16(WeightType type, int64_t rows, int64_t cols, const std::vector<float>& values) {
  return pack(type, Layout::kIl16, rows, cols, values);
}

struct CodedRow {
  std::vector<int> codes;
  float scale = 0;
};
// A row of weights, or of activations for i16.
CodedRow coded_row(const float* x, int64_t cols, float largest) {
  CodedRow row{std::vector<int>(cols), 0};
  float peak = 0;
  for (int64_t i = 0; i < cols; ++i) peak = std::max(peak, std::fabs(x[i]));
  if (peak < 1e-30f) return row;
  row.scale = peak / largest;
  for (int64_t i = 0; i < cols; ++i) row.codes[i] = static_cast<int>(std::nearbyint(x[i] * (largest / peak)));
  return row;
}

// A row of activations for i8: codes with the row's zero added.
CodedRow coded_input(const float* x, int64_t cols) {
  CodedRow row{std::vector<int>(cols), 0};
  float low = 0, high = 0;
  for (int64_t i = 0; i < cols; ++i) low = std::min(low, x[i]), high = std::max(high, x[i]);
  if (high - low < 1e-30f) return row;
  const float inverse = 254.0f / (high - low);
  row.scale = (high - low) / 254.0f;
  const int zero = static_cast<int>(std::nearbyint((low + high) * 0.5f * inverse));
  for (int64_t i = 0; i < cols; ++i)
    row.codes[i] = std::clamp(static_cast<int>(std::nearbyint(x[i] * inverse)) - zero, -128, 127) + zero;
  return row;
}

// The rule of dense.h, from the values that were packed.
std::vector<float> coded_reference(WeightType type, const std::vector<float>& weights, int64_t n,
                                   const std::vector<float>& x, int64_t m, int64_t k) {
  const float largest = type == WeightType::kI16 ? kLargestI16 : 127.0f;
  std::vector<CodedRow> w, rows;
  for (int64_t i = 0; i < n; ++i) w.push_back(coded_row(weights.data() + i * k, k, largest));
  for (int64_t i = 0; i < m; ++i)
    rows.push_back(type == WeightType::kI16 ? coded_row(x.data() + i * k, k, largest) : coded_input(x.data() + i * k, k));
  std::vector<float> y;
  for (const CodedRow& row : rows)
    for (const CodedRow& out : w) {
      int64_t dot = 0;
      for (int64_t i = 0; i < k; ++i) dot += out.codes[i] * row.codes[i];
      y.push_back(static_cast<float>(dot) * (out.scale * row.scale));
    }
  return y;
}

std::vector<float> values_with_empty_rows(int64_t rows, int64_t cols, unsigned seed) {
  std::vector<float> values = random_values(rows * cols, seed);
  for (int64_t r = 3; r < rows; r += 5) std::fill_n(values.begin() + r * cols, cols, r % 2 == 0 ? 0.0f : 1e-35f);
  return values;
}

TEST(Dense, CodesFollowTheRule) {
  for (const auto& [n, k, m] : {std::tuple<int64_t, int64_t, int64_t>{1, 1, 1}, {19, 77, 7}, {40, 320, 9},
                                {16, 2040, 2}, {50, 64, 25}}) {
    const std::vector<float> values = values_with_empty_rows(n, k, 1), x = values_with_empty_rows(m, k, 2);
    for (const WeightType type : kCodedTypes) {
      const Packed packed = pack_il16(type, n, k, values);
      const std::vector<float> expected = coded_reference(type, values, n, x, m, k);
      for (const Kernels& kernels : all_kernels())
        EXPECT_TRUE(same_bits(product(kernels, {packed.w, x, m}), expected))
            << kernels.name() << " " << weight_type_name(type) << " " << n << "x" << k;
    }
  }
}

// What SiLU and GELU give: the zero lies far from the middle of the codes.
TEST(Dense, LopsidedRowsUseAllCodes) {
  const int64_t n = 20, k = 200, m = 15;
  const std::vector<float> values = random_values(n * k, 13);
  std::vector<float> x = random_values(m * k, 14);
  for (int64_t i = 0; i < m * k; ++i)
    x[i] = i / k % 3 == 0 ? std::max(x[i], 0.05f * x[i]) : i / k % 3 == 1 ? -std::fabs(x[i]) : x[i];
  for (int64_t row = 0; row < m; ++row) {
    const CodedRow coded = coded_input(x.data() + row * k, k);
    const auto [low, high] = std::minmax_element(coded.codes.begin(), coded.codes.end());
    EXPECT_GE(std::max(*high, 0) - std::min(*low, 0), 253) << row;  // 254 steps, cut at both ends by half a step
    for (int64_t c = 0; c < k; ++c)
      EXPECT_NEAR(coded.scale * static_cast<float>(coded.codes[c]), x[row * k + c], 1.0001f * coded.scale);
  }
  const Packed packed = pack_il16(WeightType::kI8, n, k, values);
  const std::vector<float> expected = coded_reference(WeightType::kI8, values, n, x, m, k);
  for (const Kernels& kernels : all_kernels())
    EXPECT_TRUE(same_bits(product(kernels, {packed.w, x, m}), expected)) << kernels.name();
}

TEST(Dense, InfiniteInputsGiveNoFiniteOutputs) {
  const int64_t n = 20, k = 200, m = 15;
  std::vector<float> x = random_values(m * k, 15);
  x[3 * k + 7] = std::numeric_limits<float>::infinity();
  x[9 * k + 199] = -std::numeric_limits<float>::infinity();
  for (const WeightType type : kCodedTypes) {
    const Packed packed = pack_il16(type, n, k, random_values(n * k, 16));
    for (const Kernels& kernels : all_kernels()) {
      const std::vector<float> y = product(kernels, {packed.w, x, m});
      for (int64_t i = 0; i < m * n; ++i)
        EXPECT_EQ(std::isfinite(y[i]), i / n != 3 && i / n != 9) << kernels.name() << " row " << i / n;
    }
  }
}

TEST(Dense, FloatsFollowTheRule) {
  const int64_t n = 35, k = 130, m = 14;
  const std::vector<float> values = random_values(n * k, 3), x = random_values(m * k, 4);
  for (WeightType type : {WeightType::kF32, WeightType::kBF16}) {
    const Packed packed = pack_il16(type, n, k, values);
    std::vector<float> weights(n * k), expected;
    unpack_matrix(packed.w, weights.data());
    for (int64_t i = 0; i < m * n; ++i) {
      float sum = 0;
      for (int64_t c = 0; c < k; ++c) sum = std::fma(weights[i % n * k + c], x[i / n * k + c], sum);
      expected.push_back(sum);
    }
    for (const Kernels& kernels : all_kernels())
      EXPECT_TRUE(same_bits(product(kernels, {packed.w, x, m}), expected))
          << kernels.name() << " " << weight_type_name(type);
  }
}

TEST(Dense, EverySetGivesTheSameBits) {
  const Kernels scalar = scalar_kernels();
  for (const int64_t k : {1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 27, 31, 33, 63, 64, 65, 96, 127, 129, 200})
    for (const int64_t n : {1, 2, 15, 16, 17, 31, 32, 33, 48, 50, 65}) {
      const std::vector<float> values = values_with_empty_rows(n, k, 5);
      for (const WeightType type : kCodedTypes) {
        const Packed packed = pack_il16(type, n, k, values);
        for (int64_t m = 1; m <= 14; ++m) {
          const std::vector<float> x = values_with_empty_rows(m, k, 6);
          const std::vector<float> expected = product(scalar, {packed.w, x, m});
          for (const Kernels& kernels : all_kernels())
            ASSERT_TRUE(same_bits(product(kernels, {.w = packed.w, .x = x, .rows = m, .padding = m % 3}), expected))
                << kernels.name() << " " << weight_type_name(type) << " " << n << "x" << k << " m " << m;
        }
      }
    }
}

TEST(Dense, ShapesOfTheTowers) {
  const Kernels scalar = scalar_kernels();
  for (const auto& [m, n, k] : {std::tuple<int64_t, int64_t, int64_t>{50, 256, 640}, {37, 96, 1280}, {26, 40, 6144},
                                {75, 128, 1152}}) {
    const std::vector<float> values = random_values(n * k, 7), x = random_values(m * k, 8);
    for (WeightType type : kDenseTypes) {
      if (type == WeightType::kI16 && k > kMaxI16Inputs) continue;
      const Packed packed = pack_il16(type, n, k, values);
      const std::vector<float> expected = product(scalar, {packed.w, x, m});
      for (const Kernels& kernels : all_kernels())
        EXPECT_TRUE(same_bits(product(kernels, {packed.w, x, m}), expected))
            << kernels.name() << " " << weight_type_name(type) << " " << n << "x" << k << " m " << m;
    }
  }
}

// The largest codes of both signs everywhere: sums may wrap in no set.
TEST(Dense, ExtremeCodes) {
  for (const WeightType type : kCodedTypes) {
    const int64_t n = 34, k = type == WeightType::kI16 ? kMaxI16Inputs : 8192, m = 13;
    std::vector<float> values(n * k), x(m * k);
    for (int64_t i = 0; i < n * k; ++i) values[i] = i / k % 2 == 0 ? 1.0f : -1.0f;
    for (int64_t i = 0; i < m * k; ++i)
      x[i] = i / k % 3 == 0 ? 1.0f : i / k % 3 == 1 ? -1.0f : i % 2 == 0 ? 1.0f : -1.0f;
    const Packed packed = pack_il16(type, n, k, values);
    const std::vector<float> expected = coded_reference(type, values, n, x, m, k);
    EXPECT_NEAR(std::fabs(expected[0]), static_cast<float>(k), 1e-6f * static_cast<float>(k));
    for (const Kernels& kernels : all_kernels())
      EXPECT_TRUE(same_bits(product(kernels, {packed.w, x, m}), expected)) << kernels.name();
  }
}

TEST(Dense, RowsAndThreadsDoNotMatter) {
  const int64_t k = 100, m = 53;
  const std::vector<float> x = random_values(m * k, 9);
  for (const int64_t n : {9, 16, 70, 300}) {
    const std::vector<float> values = random_values(n * k, 10);
    for (WeightType type : kDenseTypes) {
      const Packed packed = pack_il16(type, n, k, values);
      for (const Kernels& kernels : all_kernels()) {
        const std::vector<float> all = product(kernels, {packed.w, x, m});
        for (int threads : {1, 2, 3})
          EXPECT_TRUE(same_bits(product(kernels, {packed.w, x, m, threads, 5}), all)) << kernels.name() << threads;
        for (int64_t row : {0, 12, 52}) {
          const std::vector<float> alone(x.begin() + row * k, x.begin() + (row + 1) * k);
          const std::vector<float> part(all.begin() + row * n, all.begin() + (row + 1) * n);
          EXPECT_TRUE(same_bits(product(kernels, {packed.w, alone, 1}), part)) << kernels.name();
        }
      }
    }
  }
}

TEST(Dense, ValuesPackedWithStridesEqualPackedMatrices) {
  for (const auto& [n, k] : {std::pair<int64_t, int64_t>{1, 1}, {16, 64}, {33, 70}, {50, 200}, {64, 7}}) {
    const std::vector<float> values = values_with_empty_rows(n, k, 11);
    std::vector<float> padded(n * (k + 3), NAN), transposed(k * (n + 2), NAN);
    for (int64_t r = 0; r < n; ++r)
      for (int64_t c = 0; c < k; ++c) {
        padded[r * (k + 3) + c] = values[r * k + c];
        transposed[c * (n + 2) + r] = values[r * k + c];
      }
    for (WeightType type : {WeightType::kF32, WeightType::kI8}) {
      const Packed expected = pack_il16(type, n, k, values);
      for (const bool transpose : {false, true}) {
        AlignedBuffer bytes(expected.bytes.size());
        std::memset(bytes.data(), 0xee, bytes.size());
        const WeightMatrix w = transpose ? pack_dense(type, n, k, transposed.data(), 1, n + 2, bytes.data())
                                         : pack_dense(type, n, k, padded.data(), k + 3, 1, bytes.data());
        EXPECT_EQ(w.bytes, expected.w.bytes);
        EXPECT_EQ(w.rows, n);
        EXPECT_EQ(w.cols, k);
        EXPECT_EQ(std::memcmp(bytes.data(), expected.bytes.data(), bytes.size()), 0)
            << weight_type_name(type) << " " << n << "x" << k << (transpose ? " transposed" : "");
      }
    }
  }
}

TEST(Dense, UnpackedWeightsLieWithinHalfAStep) {
  const int64_t n = 21, k = 90;
  const std::vector<float> values = values_with_empty_rows(n, k, 12);
  for (const WeightType type : kCodedTypes) {
    const Packed packed = pack_il16(type, n, k, values);
    std::vector<float> found(n * k), row(k);
    unpack_matrix(packed.w, found.data());
    for (int64_t r = 0; r < n; ++r) {
      const CodedRow coded = coded_row(values.data() + r * k, k, type == WeightType::kI16 ? kLargestI16 : 127.0f);
      unpack_row(packed.w, r, row.data());
      for (int64_t c = 0; c < k; ++c) {
        EXPECT_EQ(found[r * k + c], coded.scale * static_cast<float>(coded.codes[c]));
        EXPECT_EQ(row[c], found[r * k + c]);
        EXPECT_NEAR(found[r * k + c], values[r * k + c], 0.5001f * coded.scale + 1e-30f);
      }
    }
  }
}

}  // namespace
}  // namespace nestling::kernels_test
