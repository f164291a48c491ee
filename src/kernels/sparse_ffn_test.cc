#include "kernels/sparse_ffn.h"

#include <cmath>

#include <gtest/gtest.h>

#include "kernels/kernels_test_util.h"

namespace nestling::kernels_test {
namespace {

// A selection that owns its arrays: every neuron is kept with probability `share`.
struct Selection {
  Selection(int64_t rows, int64_t ffn_width, double share, unsigned seed) {
    std::mt19937 random(seed);
    std::bernoulli_distribution keep(share);
    for (int64_t row = 0; row < rows; ++row) {
      for (int32_t n = 0; n < ffn_width; ++n)
        if (keep(random)) neurons.push_back(n);
      offsets.push_back(static_cast<int64_t>(neurons.size()));
    }
    view = {rows, offsets.data(), neurons.data()};
  }
  std::vector<int64_t> offsets = {0};
  std::vector<int32_t> neurons;
  SparseSelection view;
};

std::vector<float> up_values(const Kernels& kernels, const WeightMatrix& up, const std::vector<float>& x,
                             const Selection& kept, int threads) {
  ThreadPool pool(threads, /*spin=*/false, /*worth_sharing=*/0);
  Prepared prepared(kernels, pool, x, kept.view.rows, up.cols);
  std::vector<float> values(kept.neurons.size());
  sparse_up(kernels, pool, prepared.activations, up, kept.view, values.data());
  return values;
}

std::vector<float> down_product(const Kernels& kernels, const WeightMatrix& down, const Selection& kept,
                                const std::vector<float>& values, int threads) {
  ThreadPool pool(threads, /*spin=*/false, /*worth_sharing=*/0);
  const int64_t rows = kept.view.rows;
  AlignedBuffer scratch(sparse_down_scratch_bytes(rows, down.rows, down.cols, threads));
  std::vector<float> y(rows * down.rows, NAN);
  sparse_down(kernels, pool, kept.view, values.data(), down, y.data(), down.rows, scratch.data());
  return y;
}

TEST(SparseUp, EverySetGivesTheSameBits) {
  for (const auto& [f, d] :
       {std::pair<int64_t, int64_t>{96, 32}, {64, 96}, {130, 300}, {48, 512}, {70, 1184}, {90, 2048}}) {
    const std::vector<float> weights = random_values(f * d, 1);
    for (int64_t rows : {1, 6}) {
      const std::vector<float> x = random_values(rows * d, 2);
      for (double share : {0.05, 0.5}) {
        const Selection kept(rows, f, share, 3);
        for (WeightType type : kTypes) {
          const Packed up = pack(type, Layout::kLaneRows, f, d, weights);
          const std::vector<float> expected = up_values(scalar_kernels(), up.w, x, kept, 1);
          for (const Kernels& kernels : all_kernels())
            for (int threads : {1, 3})
              EXPECT_TRUE(same_bits(up_values(kernels, up.w, x, kept, threads), expected))
                  << kernels.name() << " " << weight_type_name(type) << " " << f << "x" << d << " rows " << rows;
        }
      }
    }
  }
}

TEST(SparseUp, AgreesWithTheDenseProduct) {
  const int64_t f = 64, d = 700, rows = 5;
  const std::vector<float> weights = random_values(f * d, 4), x = random_values(rows * d, 5);
  const Selection kept(rows, f, 0.3, 6);
  ThreadPool pool(1);
  for (WeightType type : kTypes) {
    const Packed dense = pack(type, Layout::kIl16, f, d, weights), up = pack(type, Layout::kLaneRows, f, d, weights);
    const Kernels kernels = scalar_kernels();
    Prepared prepared(kernels, pool, x, rows, d);
    std::vector<float> y(rows * f);
    matmul(kernels, pool, prepared.activations, dense.w, y.data(), f);
    const std::vector<float> found = up_values(kernels, up.w, x, kept, 1);
    for (int64_t row = 0; row < rows; ++row)
      for (int64_t i = kept.offsets[row]; i < kept.offsets[row + 1]; ++i)
        EXPECT_NEAR(found[i], y[row * f + kept.neurons[i]], 2e-4) << weight_type_name(type);  // |y| is about 26
  }
}

TEST(SparseUp, OneRowAloneAndASliceGiveTheSameBits) {
  const int64_t f = 512, d = 320, rows = 7;
  const std::vector<float> weights = random_values(f * d, 7), x = random_values(rows * d, 8);
  const Selection kept(rows, f / 2, 0.2, 9);
  for (WeightType type : kTypes) {
    const Packed up = pack(type, Layout::kLaneRows, f, d, weights);
    for (const Kernels& kernels : all_kernels()) {
      const std::vector<float> all = up_values(kernels, up.w.first_rows(f / 2), x, kept, 1);
      for (int64_t row = 0; row < rows; ++row) {
        Selection alone(1, 0, 0, 0);
        alone.neurons.assign(kept.neurons.begin() + kept.offsets[row], kept.neurons.begin() + kept.offsets[row + 1]);
        alone.offsets = {0, static_cast<int64_t>(alone.neurons.size())};
        alone.view = {1, alone.offsets.data(), alone.neurons.data()};
        const std::vector<float> one(x.begin() + row * d, x.begin() + (row + 1) * d);
        const std::vector<float> part(all.begin() + kept.offsets[row], all.begin() + kept.offsets[row + 1]);
        EXPECT_TRUE(same_bits(up_values(kernels, up.w, one, alone, 1), part)) << kernels.name();
      }
    }
  }
}

TEST(SparseDown, EqualsTheDenseProductBitForBit) {
  for (const auto& [d, f] :
       {std::pair<int64_t, int64_t>{16, 32}, {96, 64}, {40, 352}, {130, 512}, {200, 1120}, {256, 1024}}) {
    const std::vector<float> weights = random_values(d * f, 10);
    for (int64_t rows : {1, 5})
      for (double share : {0.0, 0.05, 1.0}) {
        const Selection kept(rows, f, share, 11);
        const std::vector<float> values = random_values(kept.neurons.size(), 12);
        std::vector<float> x(rows * f);
        for (int64_t row = 0; row < rows; ++row)
          for (int64_t i = kept.offsets[row]; i < kept.offsets[row + 1]; ++i) x[row * f + kept.neurons[i]] = values[i];
        for (WeightType type : kTypes) {
          const Packed dense = pack(type, Layout::kIl16, d, f, weights),
                       down = pack(type, Layout::kInputMajor, d, f, weights);
          ThreadPool pool(1);
          Prepared prepared(scalar_kernels(), pool, x, rows, f);
          std::vector<float> expected(rows * d);
          matmul(scalar_kernels(), pool, prepared.activations, dense.w, expected.data(), d);
          for (const Kernels& kernels : all_kernels())
            for (int threads : {1, 3})
              EXPECT_TRUE(same_bits(down_product(kernels, down.w, kept, values, threads), expected))
                  << kernels.name() << " " << weight_type_name(type) << " " << d << "x" << f << " rows " << rows
                  << " share " << share;
        }
      }
  }
}

TEST(SparseDown, ExtremeCodesDoNotOverflow) {
  const int64_t d = 64, f = 64;
  std::vector<float> weights(d * f);
  for (int64_t i = 0; i < d * f; ++i) weights[i] = i / f % 2 == 0 ? -1.0f : 1.0f;
  for (int64_t i = 0; i < d; i += 3) weights[i * f + 7] *= -1;
  const Selection kept(1, f, 1.0, 13);
  for (float sign : {1.0f, -1.0f}) {
    const std::vector<float> values(f, sign);
    for (WeightType type : kTypes) {
      const Packed down = pack(type, Layout::kInputMajor, d, f, weights);
      const std::vector<float> expected = down_product(scalar_kernels(), down.w, kept, values, 1);
      for (const Kernels& kernels : all_kernels())
        EXPECT_TRUE(same_bits(down_product(kernels, down.w, kept, values, 1), expected)) << kernels.name();
    }
  }
}

// A MatFormer width is a prefix of the neurons.
TEST(SparseDown, SliceReadsAPrefix) {
  const int64_t d = 96, f = 256, rows = 3;
  const std::vector<float> weights = random_values(d * f, 14);
  const Selection kept(rows, f / 2, 0.4, 15);
  const std::vector<float> values = random_values(kept.neurons.size(), 16);
  for (WeightType type : kTypes) {
    const Packed down = pack(type, Layout::kInputMajor, d, f, weights);
    for (const Kernels& kernels : all_kernels())
      EXPECT_TRUE(same_bits(down_product(kernels, down.w.first_cols(f / 2), kept, values, 2),
                            down_product(kernels, down.w, kept, values, 1)));
  }
}

}  // namespace
}  // namespace nestling::kernels_test
