#include "kernels/ops.h"

#include <cmath>
#include <limits>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/kernels_test_util.h"

namespace nestling::kernels_test {
namespace {

constexpr int64_t kSizes[] = {1, 2, 7, 8, 9, 31, 32, 33, 63, 64, 65, 100, 129, 640, 1920};

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

std::vector<float> spread_values(int64_t n, unsigned seed) {
  std::vector<float> x = random_values(n, seed);
  for (int64_t i = 0; i < n; ++i) x[i] *= i % 3 == 0 ? 8.0f : 1.0f;
  return x;
}

TEST(Ops, RmsNormGeluEqualsTheTwoSteps) {
  for (const int64_t n : kSizes) {
    const std::vector<float> x = spread_values(n, 1), weight = random_values(n, 2);
    for (const float* w : {weight.data(), static_cast<const float*>(nullptr)}) {
      std::vector<float> expected(n), found(n), in_place = x;
      rms_norm(x.data(), w, 1e-6f, n, expected.data());
      gelu_tanh(expected.data(), n);
      rms_norm_gelu(x.data(), w, 1e-6f, n, found.data());
      rms_norm_gelu(in_place.data(), w, 1e-6f, n, in_place.data());
      EXPECT_TRUE(same_bits(found, expected)) << n;
      EXPECT_TRUE(same_bits(in_place, expected)) << n;
    }
  }
}

TEST(Ops, GeluFollowsItsFormula) {
  for (const int64_t n : kSizes) {
    const std::vector<float> x = spread_values(n, 3);
    std::vector<float> y = x;
    gelu_tanh(y.data(), n);
    for (int64_t i = 0; i < n; ++i) {
      const double v = x[i], u = std::sqrt(2 / M_PI) * (v + 0.044715 * v * v * v);
      EXPECT_NEAR(y[i], 0.5 * v * (1 + std::tanh(u)), 1e-6 * std::max(1.0, std::fabs(v))) << v;
    }
  }
}

TEST(Ops, SiluAndGlu) {
  for (const int64_t n : kSizes) {
    const std::vector<float> x = spread_values(2 * n, 4);
    std::vector<float> y(x.begin(), x.begin() + n), gated(n, NAN), in_place = x;
    silu(y.data(), n);
    glu(x.data(), n, gated.data());
    glu(in_place.data(), n, in_place.data());
    for (int64_t i = 0; i < n; ++i) {
      EXPECT_NEAR(y[i], x[i] * sigmoid(x[i]), 1e-6 * std::max(1.0f, std::fabs(x[i]))) << x[i];
      EXPECT_NEAR(gated[i], x[i] * sigmoid(x[n + i]), 1e-6 * std::max(1.0f, std::fabs(x[i]))) << x[i];
      EXPECT_EQ(in_place[i], gated[i]);
      EXPECT_EQ(in_place[n + i], x[n + i]);
    }
  }
}

TEST(Ops, FarFromZeroTheGatesAreOpenOrClosed) {
  std::vector<float> x = {-1e30f, -1000, -100, 100, 1000, 1e30f};
  std::vector<float> gelu = x, silued = x;
  gelu_tanh(gelu.data(), 6);
  silu(silued.data(), 6);
  for (int i = 0; i < 3; ++i) {
    EXPECT_NEAR(gelu[i], 0, 1e-6 * std::fabs(x[i]));
    EXPECT_NEAR(silued[i], 0, 1e-6 * std::fabs(x[i]));
    EXPECT_EQ(gelu[3 + i], x[3 + i]);
    EXPECT_EQ(silued[3 + i], x[3 + i]);
  }
}

TEST(Ops, SoftmaxFollowsItsFormula) {
  for (const int64_t n : kSizes) {
    const std::vector<float> x = spread_values(n, 5);
    double sum = 0, total = 0;
    for (const float v : x) sum += std::exp(static_cast<double>(v));
    std::vector<float> y = x;
    softmax(y.data(), n);
    for (int64_t i = 0; i < n; ++i) {
      EXPECT_NEAR(y[i], std::exp(static_cast<double>(x[i])) / sum, 1e-6);
      total += y[i];
    }
    EXPECT_NEAR(total, 1, 1e-5);
  }
}

TEST(Ops, SoftmaxLeavesNothingToMaskedValues) {
  for (const int64_t n : {2, 9, 33, 40, 100}) {
    std::vector<float> x(n, -std::numeric_limits<float>::infinity());
    for (int64_t i = 0; i < n; i += 2) x[i] = -1e9f;
    x[n / 2] = 3;
    softmax(x.data(), n);
    for (int64_t i = 0; i < n; ++i) EXPECT_EQ(x[i], i == n / 2 ? 1.0f : 0.0f) << n;
  }
}

TEST(Ops, MultiplyAddRowsEqualsRowAfterRow) {
  for (const int64_t n : kSizes)
    for (const int64_t rows : {1, 3, 25}) {
      const std::vector<float> a = random_values(rows * n, 6), b = random_values(rows * n, 7);
      std::vector<const float*> a_rows, b_rows;
      std::vector<float> expected = random_values(n, 8), one_by_one = expected, found = expected;
      for (int64_t r = 0; r < rows; ++r) {
        a_rows.push_back(a.data() + r * n);
        b_rows.push_back(b.data() + r * n);
        for (int64_t i = 0; i < n; ++i) expected[i] = std::fma(a[r * n + i], b[r * n + i], expected[i]);
        multiply_add(one_by_one.data(), a_rows.back(), b_rows.back(), n);
      }
      multiply_add_rows(found.data(), a_rows.data(), b_rows.data(), rows, n);
      EXPECT_TRUE(same_bits(one_by_one, expected)) << n;
      EXPECT_TRUE(same_bits(found, expected)) << n;
    }
}

}  // namespace
}  // namespace nestling::kernels_test
