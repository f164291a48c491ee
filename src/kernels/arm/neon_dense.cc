#include "kernels/arm/neon_dense.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "kernels/dense_coding.h"
#include "kernels/arm/neon_kernels.h"

namespace nestling {
namespace {

using namespace neon;

// sdot takes the 4 codes of a row from a lane of a register: 4 rows per load.
template <int kRow>
NESTLING_DOTPROD_INLINE void add_row(int32x4_t& acc, int8x16_t w, const int32_t* x) {
  acc = vdotq_laneq_s32(acc, w, vreinterpretq_s8_s32(vld1q_s32(x + kRow / 4 * 4)), kRow % 4);
}

template <int... kRow>
NESTLING_DOTPROD void tile(const DenseArgs& a, std::integer_sequence<int, kRow...>) {
  constexpr int kRows = sizeof...(kRow);
  int32x4_t dot[kRows][4];
  NESTLING_UNROLL for (int m = 0; m < kRows; ++m)
    NESTLING_UNROLL for (int quarter = 0; quarter < 4; ++quarter) dot[m][quarter] = dense_start(a, m, quarter);
  const std::byte* w = a.w;
  const int32_t* x = a.x.codes;
  for (int64_t word = 0; word < a.words; ++word, w += kLineBytes, x += kRows)
    NESTLING_UNROLL for (int quarter = 0; quarter < 4; ++quarter) {
      const int8x16_t codes = load_s8(w + 16 * quarter);
      (add_row<kRow>(dot[kRow][quarter], codes, x), ...);
    }
  NESTLING_UNROLL for (int m = 0; m < kRows; ++m)
    NESTLING_UNROLL for (int quarter = 0; quarter < 4; ++quarter) store_dense(a, m, quarter, dot[m][quarter]);
}

// i16: smlal takes one input of 4 outputs at a time, so that the two inputs of a word are parted first.
template <int kRows>
void tile16(const DenseArgs& a) {
  int32x4_t dot[kRows][4];
  NESTLING_UNROLL for (int m = 0; m < kRows; ++m)
    NESTLING_UNROLL for (int quarter = 0; quarter < 4; ++quarter) dot[m][quarter] = vdupq_n_s32(0);
  const std::byte* w = a.w;
  const int32_t* x = a.x.codes;
  for (int64_t word = 0; word < a.words; ++word, w += kLineBytes, x += kRows)
    NESTLING_UNROLL for (int half = 0; half < 2; ++half) {
      const int16x8x2_t inputs = vld2q_s16(reinterpret_cast<const int16_t*>(w) + 16 * half);
      NESTLING_UNROLL for (int m = 0; m < kRows; ++m) {
        const int16x4_t xx = vreinterpret_s16_s32(vld1_dup_s32(x + m));
        int32x4_t* sums = dot[m] + 2 * half;
        NESTLING_UNROLL for (int quarter = 0; quarter < 2; ++quarter) {
          const int16x4_t first = quarter == 0 ? vget_low_s16(inputs.val[0]) : vget_high_s16(inputs.val[0]);
          const int16x4_t second = quarter == 0 ? vget_low_s16(inputs.val[1]) : vget_high_s16(inputs.val[1]);
          sums[quarter] = vmlal_lane_s16(vmlal_lane_s16(sums[quarter], first, xx, 0), second, xx, 1);
        }
      }
    }
  NESTLING_UNROLL for (int m = 0; m < kRows; ++m)
    NESTLING_UNROLL for (int quarter = 0; quarter < 4; ++quarter) store_dense(a, m, quarter, dot[m][quarter]);
}

constexpr int kQuad = 4;        // rows coded together
constexpr int64_t kSpan = 16;   // inputs of a step

DenseRowCoding coding_of(const float* x, int64_t cols) {
  float32x4_t lowest = vdupq_n_f32(0), highest = vdupq_n_f32(0);
  int64_t i = 0;
  for (; i + 4 <= cols; i += 4) {
    lowest = vminq_f32(lowest, vld1q_f32(x + i));
    highest = vmaxq_f32(highest, vld1q_f32(x + i));
  }
  float low = vminvq_f32(lowest), high = vmaxvq_f32(highest);
  for (; i < cols; ++i) low = std::min(low, x[i]), high = std::max(high, x[i]);
  return dense_row_coding(low, high);
}

NESTLING_NEON_INLINE int8x16_t code16(const float* x, const DenseRowCoding& row) {
  const int32x4_t zero = vdupq_n_s32(row.zero);
  int16x4_t q[4];
  NESTLING_UNROLL for (int v = 0; v < 4; ++v)
    q[v] = vqmovn_s32(vsubq_s32(vcvtnq_s32_f32(vmulq_n_f32(vld1q_f32(x + 4 * v), row.inverse)), zero));
  return vcombine_s8(vqmovn_s16(vcombine_s16(q[0], q[1])), vqmovn_s16(vcombine_s16(q[2], q[3])));
}

struct Quad {
  const float* rows[kQuad];
  DenseRowCoding coding[kQuad];
  int32x4_t sums[kQuad];
};

// 16 inputs from `col` on: words[i] = word i of the four rows.
NESTLING_NEON_INLINE void code_quad(Quad& quad, int64_t col, int32x4_t words[4]) {
  int32x4_t c[kQuad];
  NESTLING_UNROLL for (int r = 0; r < kQuad; ++r) {
    const int8x16_t codes = code16(quad.rows[r] + col, quad.coding[r]);
    quad.sums[r] = vpadalq_s16(quad.sums[r], vpaddlq_s8(codes));
    c[r] = vreinterpretq_s32_s8(codes);
  }
  const int64x2_t a = vreinterpretq_s64_s32(vzip1q_s32(c[0], c[1])), b = vreinterpretq_s64_s32(vzip1q_s32(c[2], c[3]));
  const int64x2_t d = vreinterpretq_s64_s32(vzip2q_s32(c[0], c[1])), e = vreinterpretq_s64_s32(vzip2q_s32(c[2], c[3]));
  words[0] = vreinterpretq_s32_s64(vzip1q_s64(a, b));
  words[1] = vreinterpretq_s32_s64(vzip2q_s64(a, b));
  words[2] = vreinterpretq_s32_s64(vzip1q_s64(d, e));
  words[3] = vreinterpretq_s32_s64(vzip2q_s64(d, e));
}

// `count` words of the first `rows` rows.
void store_some(const int32x4_t words[4], int rows, int64_t count, int32_t* out, int64_t step) {
  for (int64_t i = 0; i < count; ++i) {
    int32_t word[kQuad];
    vst1q_s32(word, words[i]);
    std::memcpy(out + i * step, word, rows * sizeof(int32_t));
  }
}

// `rows` rows, at most four; `tile` is at the first of them and has `step` rows.
void code_rows(Quad& quad, int rows, int64_t cols, const DenseTile& tile, int64_t step) {
  for (int r = 0; r < kQuad; ++r) {
    quad.sums[r] = vdupq_n_s32(0);
    quad.coding[r] = {};
    if (r >= rows) {  // a row that is there, and is not kept
      quad.rows[r] = quad.rows[0];
      continue;
    }
    quad.coding[r] = coding_of(quad.rows[r], cols);
    tile.scales[r] = quad.coding[r].scale;
    tile.zeros[r] = quad.coding[r].zero;
  }
  int32x4_t words[4];
  int32_t* out = tile.codes;
  int64_t col = 0;
  for (; col + kSpan <= cols; col += kSpan, out += kSpan / 4 * step) {
    code_quad(quad, col, words);
    if (rows == kQuad)
      NESTLING_UNROLL for (int i = 0; i < 4; ++i) vst1q_s32(out + i * step, words[i]);
    else
      store_some(words, rows, kSpan / 4, out, step);
  }
  for (int r = 0; r < rows; ++r)
    tile.sums[r] = vaddvq_s32(quad.sums[r]) +
                   dense_code_tail(quad.rows[r], col, cols, quad.coding[r], tile.codes + r, step);
}

}  // namespace

void neon_dense(const DenseArgs& a) {
  switch (a.rows) {
    case 1: return tile(a, std::make_integer_sequence<int, 1>());
    case 2: return tile(a, std::make_integer_sequence<int, 2>());
    case 3: return tile(a, std::make_integer_sequence<int, 3>());
    case 4: return tile(a, std::make_integer_sequence<int, 4>());
    case 5: return tile(a, std::make_integer_sequence<int, 5>());
    case 6: return tile(a, std::make_integer_sequence<int, 6>());
  }
}

void neon_dense16(const DenseArgs& a) {
  switch (a.rows) {
    case 1: return tile16<1>(a);
    case 2: return tile16<2>(a);
    case 3: return tile16<3>(a);
    case 4: return tile16<4>(a);
  }
}

NESTLING_DOTPROD void neon_dense_sums(const std::byte* w, int64_t words, int32_t* sums, int32_t*) {
  const int8x16_t ones = vdupq_n_s8(1);
  int32x4_t all[4];
  NESTLING_UNROLL for (int quarter = 0; quarter < 4; ++quarter) all[quarter] = vdupq_n_s32(0);
  for (int64_t word = 0; word < words; ++word, w += kLineBytes)
    NESTLING_UNROLL for (int quarter = 0; quarter < 4; ++quarter)
      all[quarter] = vdotq_s32(all[quarter], load_s8(w + 16 * quarter), ones);
  NESTLING_UNROLL for (int quarter = 0; quarter < 4; ++quarter) vst1q_s32(sums + 4 * quarter, all[quarter]);
}

void neon_dense_code(const float* x, int64_t stride, int rows, int64_t cols, const DenseTile& out) {
  for (int first = 0; first < rows; first += kQuad) {
    const int count = std::min(kQuad, rows - first);
    Quad quad;
    for (int r = 0; r < count; ++r) quad.rows[r] = x + (first + r) * stride;
    code_rows(quad, count, cols, {out.codes + first, out.sums + first, out.zeros + first, out.scales + first}, rows);
  }
}

}  // namespace nestling
