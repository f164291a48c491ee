#include "kernels/matmul.h"

#include <algorithm>
#include <cmath>

#include <gtest/gtest.h>

#include "kernels/kernels_test_util.h"

namespace nestling::kernels_test {
namespace {

constexpr float kUntouched = -123.5f;

std::vector<float> product(const Kernels& kernels, const WeightMatrix& w, const std::vector<float>& x, int64_t rows,
                           int threads, int64_t x_cols, int64_t y_stride) {
  ThreadPool pool(threads, /*spin=*/false, /*worth_sharing=*/0);
  Prepared prepared(kernels, pool, x, rows, x_cols);
  std::vector<float> y(rows * y_stride, kUntouched);
  matmul(kernels, pool, prepared.activations, w, y.data(), y_stride);
  return y;
}

std::vector<float> product(const Kernels& kernels, const WeightMatrix& w, const std::vector<float>& x, int64_t rows,
                           int threads = 1) {
  return product(kernels, w, x, rows, threads, w.cols, w.rows);
}

// The rule of matmul.h in double, from the unpacked weights.
std::vector<double> reference(const WeightMatrix& w, const std::vector<float>& x, int64_t rows) {
  std::vector<float> weights(w.rows * w.cols), coded(x);
  unpack_matrix(w, weights.data());
  if (is_quantized(w.type))
    for (int64_t m = 0; m < rows; ++m)
      for (int64_t begin = 0; begin < w.cols; begin += 32) {
        float* block = coded.data() + m * w.cols + begin;
        const int64_t count = std::min<int64_t>(32, w.cols - begin);
        float peak = 0;
        for (int64_t i = 0; i < count; ++i) peak = std::max(peak, std::fabs(block[i]));
        for (int64_t i = 0; i < count && peak > 0; ++i)
          block[i] = std::nearbyint(block[i] * (127.0f / peak)) * (peak / 127.0f);
      }
  std::vector<double> y(rows * w.rows);
  for (int64_t m = 0; m < rows; ++m)
    for (int64_t n = 0; n < w.rows; ++n)
      for (int64_t k = 0; k < w.cols; ++k)
        y[m * w.rows + n] += static_cast<double>(weights[n * w.cols + k]) * coded[m * w.cols + k];
  return y;
}

TEST(Matmul, ScalarFollowsTheRule) {
  for (const auto& [n, k, m] :
       {std::tuple<int64_t, int64_t, int64_t>{1, 1, 1}, {19, 77, 3}, {40, 320, 9}, {16, 2100, 2}}) {
    const std::vector<float> values = random_values(n * k, 1), x = random_values(m * k, 2);
    for (WeightType type : kTypes) {
      const Packed packed = pack(type, Layout::kIl16, n, k, values);
      const std::vector<float> y = product(scalar_kernels(), packed.w, x, m);
      const std::vector<double> expected = reference(packed.w, x, m);
      for (size_t i = 0; i < y.size(); ++i)
        ASSERT_NEAR(y[i], expected[i], 2e-6 * std::sqrt(k) * 8) << weight_type_name(type) << " " << i;
    }
  }
}

TEST(Matmul, EverySetGivesTheSameBits) {
  const Kernels scalar = scalar_kernels();
  for (const auto& [n, k] : {std::pair<int64_t, int64_t>{1, 32}, {7, 64}, {16, 96}, {24, 33}, {33, 160}, {40, 2080},
                             {130, 96}, {300, 352}, {64, 4128}}) {
    const std::vector<float> values = random_values(n * k, 3);
    for (int64_t m : {1, 2, 3, 4, 5, 6, 7, 8, 11, 12, 13, 20}) {
      std::vector<float> x = random_values(m * k, 4);
      std::fill_n(x.begin(), std::min<int64_t>(k, 32), 0.0f);  // a zero block
      for (WeightType type : kTypes) {
        const Packed packed = pack(type, Layout::kIl16, n, k, values);
        const std::vector<float> expected = product(scalar, packed.w, x, m);
        for (const Kernels& kernels : all_kernels())
          EXPECT_TRUE(same_bits(product(kernels, packed.w, x, m), expected))
              << kernels.name() << " " << weight_type_name(type) << " " << n << "x" << k << " m " << m;
      }
    }
  }
}

// The largest sums a block can reach must not overflow the narrow sums some sets use.
TEST(Matmul, ExtremeCodes) {
  const int64_t n = 32, k = 128, m = 7;
  for (WeightType type : {WeightType::kQ8, WeightType::kQ6, WeightType::kQ4})
    for (float sign : {1.0f, -1.0f}) {
      std::vector<float> values(n * k), x(m * k);
      for (int64_t i = 0; i < n * k; ++i) values[i] = (i / k) % 2 == 0 ? 1.0f : -1.0f;
      for (int64_t i = 0; i < m * k; ++i) x[i] = sign * (i / k % 3 == 0 ? 1.0f : i % 2 == 0 ? 1.0f : -1.0f);
      for (int64_t i = 0; i < n; i += 3) values[i * k + 5] *= -1;  // uses both ends of the range of codes
      const Packed packed = pack(type, Layout::kIl16, n, k, values);
      const std::vector<float> expected = product(scalar_kernels(), packed.w, x, m);
      for (const Kernels& kernels : all_kernels())
        EXPECT_TRUE(same_bits(product(kernels, packed.w, x, m), expected)) << kernels.name() << weight_type_name(type);
    }
}

TEST(Matmul, TiledEqualsUntiled) {
  for (const auto& [n, k] : {std::pair<int64_t, int64_t>{40, 2048}, {35, 2112}, {48, 4192}, {16, 6144}}) {
    const std::vector<float> values = random_values(n * k, 5);
    for (int64_t m : {1, 5, 19}) {
      const std::vector<float> x = random_values(m * k, 6);
      for (WeightType type : kTypes) {
        const Packed plain = pack(type, Layout::kIl16, n, k, values);
        const Packed tiled = pack(type, Layout::kIl16Tiled, n, k, values);
        for (const Kernels& kernels : all_kernels())
          EXPECT_TRUE(same_bits(product(kernels, plain.w, x, m), product(kernels, tiled.w, x, m)))
              << kernels.name() << " " << weight_type_name(type) << " " << n << "x" << k << " m " << m;
      }
    }
  }
}

TEST(Matmul, SlicesEqualMatricesOfThatSize) {
  const int64_t n = 72, k = 4288, m = 9;
  const std::vector<float> values = random_values(n * k, 7), x = random_values(m * k, 8);
  for (WeightType type : kTypes)
    for (Layout layout : {Layout::kIl16, Layout::kIl16Tiled}) {
      const Packed whole = pack(type, layout, n, k, values);
      for (const auto& [rows, cols] : {std::pair<int64_t, int64_t>{72, 4288}, {40, 32}, {24, 96}, {72, 2048}, {1, 2080},
                                       {64, 4256}}) {
        std::vector<float> part_values(rows * cols), part_x(m * cols);
        for (int64_t r = 0; r < rows; ++r)
          std::copy_n(values.begin() + r * k, cols, part_values.begin() + r * cols);
        for (int64_t r = 0; r < m; ++r) std::copy_n(x.begin() + r * k, cols, part_x.begin() + r * cols);
        const Packed part = pack(type, layout, rows, cols, part_values);
        for (const Kernels& kernels : all_kernels()) {
          const WeightMatrix slice = whole.w.first_rows(rows).first_cols(cols);
          const int64_t stride = rows + 3;
          const std::vector<float> found = product(kernels, slice, x, m, 1, k, stride);
          const std::vector<float> expected = product(kernels, part.w, part_x, m, 1, cols, stride);
          EXPECT_TRUE(same_bits(found, expected)) << kernels.name() << " " << weight_type_name(type) << " "
                                                  << layout_name(layout) << " " << rows << "x" << cols;
          for (int64_t r = 0; r < m; ++r) EXPECT_EQ(found[r * stride + rows], kUntouched);
        }
      }
    }
}

TEST(Matmul, RowsAndThreadsDoNotMatter) {
  const int64_t n = 150, k = 2112, m = 23;
  const std::vector<float> values = random_values(n * k, 9), x = random_values(m * k, 10);
  for (WeightType type : kTypes) {
    const Packed packed = pack(type, Layout::kIl16, n, k, values);
    for (const Kernels& kernels : all_kernels()) {
      const std::vector<float> all = product(kernels, packed.w, x, m);
      for (int threads : {2, 3, 8}) EXPECT_TRUE(same_bits(product(kernels, packed.w, x, m, threads), all));
      for (int64_t row : {0, 7, 22}) {
        const std::vector<float> alone(x.begin() + row * k, x.begin() + (row + 1) * k);
        const std::vector<float> part(all.begin() + row * n, all.begin() + (row + 1) * n);
        EXPECT_TRUE(same_bits(product(kernels, packed.w, alone, 1), part)) << kernels.name();
      }
    }
  }
}

TEST(Matmul, ManyEqualsOneByOne) {
  const int64_t k = 96, m = 5;
  const std::vector<float> x = random_values(m * k, 11);
  ThreadPool pool(3, /*spin=*/false, /*worth_sharing=*/0);
  for (const Kernels& kernels : all_kernels()) {
    Prepared prepared(kernels, pool, x, m, k);
    std::vector<Packed> packed;
    std::vector<std::vector<float>> y;
    std::vector<Product> products;
    for (const auto& [type, n] : {std::pair<WeightType, int64_t>{WeightType::kQ4, 70}, {WeightType::kF32, 3},
                                  {WeightType::kQ8, 33}, {WeightType::kBF16, 16}, {WeightType::kQ6, 200}}) {
      packed.push_back(pack(type, Layout::kIl16, n, k, random_values(n * k, 12)));
      y.emplace_back(m * n);
      products.push_back({packed.back().w, y.back().data(), n});
    }
    matmul_many(kernels, pool, prepared.activations, products);
    for (size_t i = 0; i < products.size(); ++i)
      EXPECT_TRUE(same_bits(y[i], product(kernels, packed[i].w, x, m))) << kernels.name() << " " << i;
  }
}

// The largest product of a decoded token of models/nano's layers, gate and up, and the smallest of E2B's that divides.
TEST(Matmul, SmallProductsStayOnTheCallingThread) {
  const auto forks = [](int64_t n, int64_t k, int64_t rows) {
    ThreadPool pool(2, /*spin=*/false);
    const Packed packed = pack(WeightType::kQ4, Layout::kIl16, n, k, random_values(n * k, 13));
    const std::vector<float> x = random_values(rows * k, 14);
    Prepared prepared(scalar_kernels(), pool, x, rows, k);
    const uint32_t before = pool.forks();
    std::vector<float> y(rows * n);
    matmul(scalar_kernels(), pool, prepared.activations, packed.w, y.data(), n);
    return pool.forks() - before;
  };
  EXPECT_EQ(forks(768, 96, 1), 0u);
  EXPECT_EQ(forks(768, 96, 2), 1u);
  EXPECT_EQ(forks(64, 2048, 1), 1u);
}

TEST(Kernels, NamesAndErrors) {
  EXPECT_TRUE(Kernels::named("scalar"));
  EXPECT_EQ(Kernels::available().back(), "scalar");
  const auto missing = Kernels::named("mmx");
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().code, ErrorCode::kUnsupported);
  EXPECT_NE(missing.error().message.find("scalar"), std::string::npos);
  EXPECT_TRUE(Kernels::choose());
}

}  // namespace
}  // namespace nestling::kernels_test
