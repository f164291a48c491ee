#include "kernels/arm/neon_il16.h"
#include "kernels/arm/neon_kernels.h"

namespace nestling {
namespace {

using namespace neon;

// smmla multiplies 2 tokens x 8 inputs by 8 inputs x 2 rows. The two halves of a pair of codes, zipped, are 2 rows of 8
// inputs; the codes of 4 tokens for two groups of 4 inputs, zipped, are 2 tokens of 8 inputs. Tokens beyond kTokens
// read on into what follows and are dropped.
template <WeightType kType, int kTokens>
NESTLING_I8MM __attribute__((always_inline)) inline void dot_block(const std::byte* cell, const int32_t* x,
                                                                    const int32_t* corrections,
                                                                    BlockSums<kTokens>& sums) {
  constexpr int kPairs = (kTokens + 1) / 2;
  int32x4_t acc[kPairs][8];  // [pair of tokens][pair of rows]: token 0 rows 0 1, token 1 rows 0 1
  NESTLING_UNROLL for (int p = 0; p < kPairs; ++p) {
    const int32_t first = corrections[2 * p], second = 2 * p + 1 < kTokens ? corrections[2 * p + 1] : 0;
    const int32x4_t start = scale_correction<kType>(vcombine_s32(vdup_n_s32(first), vdup_n_s32(second)));
    NESTLING_UNROLL for (int r = 0; r < 8; ++r) acc[p][r] = start;
  }
  NESTLING_UNROLL for (int j = 0; j < 4; ++j) {
    const int32x4_t x0 = vld1q_s32(x + (2 * j) * kTokens), x1 = vld1q_s32(x + (2 * j + 1) * kTokens);
    const int8x16_t xx[2] = {vreinterpretq_s8_s32(vzip1q_s32(x0, x1)), vreinterpretq_s8_s32(vzip2q_s32(x0, x1))};
    NESTLING_UNROLL for (int quarter = 0; quarter < 4; ++quarter) {
      const CodePair codes = load_codes<kType>(cell, j, quarter);
      const int32x4_t low = vreinterpretq_s32_s8(codes.first), high = vreinterpretq_s32_s8(codes.second);
      const int8x16_t w[2] = {vreinterpretq_s8_s32(vzip1q_s32(low, high)), vreinterpretq_s8_s32(vzip2q_s32(low, high))};
      NESTLING_UNROLL for (int p = 0; p < kPairs; ++p)
        NESTLING_UNROLL for (int r = 0; r < 2; ++r)
          acc[p][2 * quarter + r] = vmmlaq_s32(acc[p][2 * quarter + r], xx[p], w[r]);
    }
  }
  NESTLING_UNROLL for (int m = 0; m < kTokens; ++m)
    NESTLING_UNROLL for (int quarter = 0; quarter < 4; ++quarter) {
      const int64x2_t a = vreinterpretq_s64_s32(acc[m / 2][2 * quarter]);
      const int64x2_t b = vreinterpretq_s64_s32(acc[m / 2][2 * quarter + 1]);
      sums.of[m][quarter] = vreinterpretq_s32_s64(m % 2 == 0 ? vtrn1q_s64(a, b) : vtrn2q_s64(a, b));
    }
}

template <WeightType kType, int kTokens>
NESTLING_I8MM void tile(const Il16Args& a) {
  FloatSums<kTokens, 1> acc(a);
  TileCursor x(a.tile);
  for (int64_t block = 0; block < a.cols / kQuantBlock; ++block, x.advance(kTokens)) {
    const BlockPlace place(kType, a.w, block);
    BlockSums<kTokens> sums;
    dot_block<kType, kTokens>(place.cell, x.codes, x.corrections, sums);
    acc.add(0, sums, place.scales, x.scales);
  }
  acc.store(a);
}

template <WeightType kType>
void stream(const Il16Args& a) {
  switch (a.tokens) {
    case 2: return tile<kType, 2>(a);
    case 3: return tile<kType, 3>(a);
    case 4: return tile<kType, 4>(a);
  }
}

}  // namespace

// One token has no second row of X to share an instruction with: the dot-product kernels serve it.
void i8mm_il16_q8(const Il16Args& a) {
  a.tokens == 1 ? neon_il16_q8(a) : for_each_stream(a, stream<WeightType::kQ8>);
}
void i8mm_il16_q6(const Il16Args& a) {
  a.tokens == 1 ? neon_il16_q6(a) : for_each_stream(a, stream<WeightType::kQ6>);
}
void i8mm_il16_q4(const Il16Args& a) {
  a.tokens == 1 ? neon_il16_q4(a) : for_each_stream(a, stream<WeightType::kQ4>);
}

}  // namespace nestling
