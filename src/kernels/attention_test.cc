// Attention against a plain double computation, and the bits it promises: whatever the set, the threads and the cuts.
#include "kernels/attention.h"

#include <cmath>

#include <gtest/gtest.h>

#include "base/checked.h"
#include "kernels/kernels_test_util.h"

namespace nestling {
namespace {

using namespace kernels_test;

struct Shape {
  int64_t heads, kv_heads, head_dim, positions, window;
};
constexpr Shape kShapes[] = {{4, 1, 256, 560, 0}, {8, 2, 64, 1'060, 512}, {4, 1, 16, 70, 8}, {6, 6, 12, 40, 0},
                             {6, 2, 34, 600, 40},   {1, 1, 6, 33, 0}};
constexpr KvType kKvTypes[] = {KvType::kF32, KvType::kBF16, KvType::kQ8};

// A conversation of `positions`: keys, values and queries of all of them.
class Case {
 public:
  Case(const Shape& shape, KvType type, int64_t capacity)
      : shape_(shape), memory_(KvLayer::bytes_needed(type, shape.kv_heads, shape.head_dim, capacity)),
        kv_(type, shape.kv_heads, shape.head_dim, capacity, {memory_.data(), memory_.size()}),
        k_(random_values(shape.positions * shape.kv_heads * shape.head_dim, 1)),
        v_(random_values(shape.positions * shape.kv_heads * shape.head_dim, 2)),
        q_(random_values(shape.positions * stride(), 3)) {
    for (float& q : q_) q *= 0.3f;
  }
  explicit Case(const Shape& shape, KvType type) : Case(shape, type, round_up(shape.positions, kKvBlock)) {}

  int64_t stride() const { return shape_.heads * shape_.head_dim; }
  const std::vector<float>& q() const { return q_; }
  KvLayer& kv() { return kv_; }

  void store(int64_t begin, int64_t end) {
    const int64_t width = shape_.kv_heads * shape_.head_dim;
    for (int64_t s = begin; s < end; ++s) kv_.store(s, k_.data() + s * width, v_.data() + s * width);
  }

  // Rows [begin, end), chunk by chunk.
  std::vector<float> run(const Kernels& kernels, int threads, int64_t begin, int64_t end, int64_t chunk) {
    ThreadPool pool(threads, /*spin=*/true, /*worth_sharing=*/0);
    const AlignedBuffer scratch(attention_scratch_bytes(shape_.heads, shape_.kv_heads, shape_.head_dim, threads));
    std::vector<float> out(static_cast<size_t>((end - begin) * stride()));
    for (int64_t row = begin; row < end; row += chunk) {
      const int64_t last = std::min(end, row + chunk);
      store(row, last);
      attend(kernels, pool, kv_,
             {.q = q_.data() + row * stride(), .out = out.data() + (row - begin) * stride(), .stride = stride(),
              .rows = last - row, .first_position = row, .heads = shape_.heads, .window = shape_.window},
             scratch.data());
    }
    return out;
  }

 private:
  Shape shape_;
  AlignedBuffer memory_;
  KvLayer kv_;
  std::vector<float> k_, v_, q_;
};

// Row `t` in double, from what the cache holds.
std::vector<double> reference_row(Case& c, const Shape& shape, int64_t t) {
  std::vector<double> out(static_cast<size_t>(shape.heads * shape.head_dim));
  std::vector<float> keys(static_cast<size_t>(kKvBlock * shape.head_dim)), values(keys.size());
  for (int64_t h = 0; h < shape.heads; ++h) {
    const int64_t g = h / (shape.heads / shape.kv_heads);
    std::vector<double> weights;
    double max = -1e30, total = 0;
    const int64_t first = shape.window > 0 ? std::max<int64_t>(0, t - shape.window + 1) : 0;
    for (const bool second : {false, true}) {
      for (int64_t s = first; s <= t; ++s) {
        if (s == first || s % kKvBlock == 0) {
          c.kv().load_keys(g, s / kKvBlock * kKvBlock, keys.data());
          c.kv().load_values(g, s / kKvBlock * kKvBlock, values.data());
        }
        if (!second) {
          double score = 0;
          for (int64_t d = 0; d < shape.head_dim; ++d)
            score += double{c.q()[t * c.stride() + h * shape.head_dim + d]} * keys[s % kKvBlock * shape.head_dim + d];
          weights.push_back(score);
          max = std::max(max, score);
        } else {
          const double weight = std::exp(weights[s - first] - max);
          total += weight;
          for (int64_t d = 0; d < shape.head_dim; ++d)
            out[h * shape.head_dim + d] += weight * values[s % kKvBlock * shape.head_dim + d];
        }
      }
    }
    for (int64_t d = 0; d < shape.head_dim; ++d) out[h * shape.head_dim + d] /= total;
  }
  return out;
}

TEST(AttentionTest, AgreesWithPlainDouble) {
  for (const Shape& shape : kShapes)
    for (const KvType type : kKvTypes) {
      Case c(shape, type);
      const std::vector<float> out = c.run(scalar_kernels(), 1, 0, shape.positions, 64);
      for (int64_t t = 0; t < shape.positions; t += 37) {
        const std::vector<double> expected = reference_row(c, shape, t);
        for (int64_t i = 0; i < c.stride(); ++i)
          ASSERT_NEAR(out[t * c.stride() + i], expected[i], 2e-5) << kv_type_name(type) << " row " << t << " at " << i;
      }
    }
}

TEST(AttentionTest, SetsGiveTheSameBits) {
  for (const Shape& shape : kShapes)
    for (const KvType type : kKvTypes) {
      const std::vector<float> expected = Case(shape, type).run(scalar_kernels(), 1, 0, shape.positions, 64);
      for (const Kernels& kernels : all_kernels())
        EXPECT_TRUE(same_bits(Case(shape, type).run(kernels, 2, 0, shape.positions, 64), expected))
            << kernels.name() << " " << kv_type_name(type) << " head_dim " << shape.head_dim;
    }
}

TEST(AttentionTest, CutsAndThreadsDoNotChangeBits) {
  for (const Shape& shape : kShapes)
    for (const KvType type : kKvTypes) {
      const Kernels kernels = Kernels::choose().value();
      const std::vector<float> expected = Case(shape, type).run(kernels, 1, 0, shape.positions, 256);
      for (const auto& [threads, chunk] : {std::pair{1, 1}, {3, 1}, {2, 7}, {5, 32}})
        EXPECT_TRUE(same_bits(Case(shape, type).run(kernels, threads, 0, shape.positions, chunk), expected))
            << threads << " threads, chunks of " << chunk << ", " << kv_type_name(type);
    }
}

// A ring that holds the window and one chunk gives what a cache of all positions gives.
TEST(AttentionTest, RingEqualsWholeCache) {
  const Shape shape{4, 2, 64, 900, 100};
  for (const KvType type : kKvTypes) {
    const Kernels kernels = Kernels::choose().value();
    const std::vector<float> expected = Case(shape, type).run(kernels, 2, 0, shape.positions, 30);
    EXPECT_TRUE(same_bits(Case(shape, type, round_up(99 + 30, kKvBlock)).run(kernels, 2, 0, shape.positions, 30), expected));
  }
}

// More segments than are computed apart.
TEST(AttentionTest, VeryLongRows) {
  const Shape shape{1, 1, 4, 65 * kKvSegment + 5, 0};
  Case c(shape, KvType::kF32);
  c.store(0, shape.positions - 2);
  const int64_t begin = shape.positions - 2;
  const Kernels kernels = Kernels::choose().value();
  const std::vector<float> together = c.run(kernels, 2, begin, shape.positions, 2);
  EXPECT_TRUE(same_bits(c.run(kernels, 2, begin, shape.positions, 1), together));
  const std::vector<double> expected = reference_row(c, shape, begin);
  for (int64_t i = 0; i < c.stride(); ++i) EXPECT_NEAR(together[i], expected[i], 1e-4);
}

}  // namespace
}  // namespace nestling
