#include <algorithm>

#include "kernels/arm/neon_dense.h"
#include "kernels/arm/neon_kernels.h"

namespace nestling {
namespace {

using namespace neon;

// smmla multiplies 2 rows x 8 inputs by 8 inputs x 2 outputs. Two words of two rows of X, zipped, are 2 rows of 8
// inputs, two words of four outputs likewise. The row beyond an odd kRows is what follows in memory, and is dropped.
template <int kRows>
NESTLING_I8MM void tile(const DenseArgs& a) {
  constexpr int kPairs = (kRows + 1) / 2;
  int32x4_t dot[kPairs][8];  // [pair of rows][pair of outputs]: row 0 outputs 0 1, row 1 outputs 0 1
  NESTLING_UNROLL for (int p = 0; p < kPairs; ++p)
    NESTLING_UNROLL for (int quarter = 0; quarter < 4; ++quarter) {
      const int64x2_t first = vreinterpretq_s64_s32(dense_start(a, 2 * p, quarter));
      const int64x2_t second = vreinterpretq_s64_s32(dense_start(a, std::min(2 * p + 1, kRows - 1), quarter));
      dot[p][2 * quarter] = vreinterpretq_s32_s64(vtrn1q_s64(first, second));
      dot[p][2 * quarter + 1] = vreinterpretq_s32_s64(vtrn2q_s64(first, second));
    }
  const std::byte* w = a.w;
  const int32_t* x = a.x.codes;
  for (int64_t word = 0; word < a.words; word += 2, w += 2 * kLineBytes, x += 2 * kRows) {
    int8x16_t xx[kPairs];
    NESTLING_UNROLL for (int p = 0; p < kPairs; ++p) {
      const int32x2_t x0 = vld1_s32(x + 2 * p), x1 = vld1_s32(x + kRows + 2 * p);
      xx[p] = vreinterpretq_s8_s32(vcombine_s32(vzip1_s32(x0, x1), vzip2_s32(x0, x1)));
    }
    NESTLING_UNROLL for (int quarter = 0; quarter < 4; ++quarter) {
      const int32x4_t w0 = vreinterpretq_s32_s8(load_s8(w + 16 * quarter));
      const int32x4_t w1 = vreinterpretq_s32_s8(load_s8(w + kLineBytes + 16 * quarter));
      const int8x16_t ww[2] = {vreinterpretq_s8_s32(vzip1q_s32(w0, w1)), vreinterpretq_s8_s32(vzip2q_s32(w0, w1))};
      NESTLING_UNROLL for (int p = 0; p < kPairs; ++p)
        NESTLING_UNROLL for (int i = 0; i < 2; ++i)
          dot[p][2 * quarter + i] = vmmlaq_s32(dot[p][2 * quarter + i], xx[p], ww[i]);
    }
  }
  NESTLING_UNROLL for (int m = 0; m < kRows; ++m)
    NESTLING_UNROLL for (int quarter = 0; quarter < 4; ++quarter) {
      const int64x2_t first = vreinterpretq_s64_s32(dot[m / 2][2 * quarter]);
      const int64x2_t second = vreinterpretq_s64_s32(dot[m / 2][2 * quarter + 1]);
      store_dense(a, m, quarter,
                  vreinterpretq_s32_s64(m % 2 == 0 ? vtrn1q_s64(first, second) : vtrn2q_s64(first, second)));
    }
}

}  // namespace

void i8mm_dense(const DenseArgs& a) {
  switch (a.rows) {
    case 1: return tile<1>(a);
    case 2: return tile<2>(a);
    case 3: return tile<3>(a);
    case 4: return tile<4>(a);
    case 5: return tile<5>(a);
    case 6: return tile<6>(a);
  }
}

}  // namespace nestling
