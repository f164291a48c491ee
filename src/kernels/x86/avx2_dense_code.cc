// Rows of X as int8 tiles for dense().
#include <algorithm>
#include <cstring>

#include "kernels/dense_coding.h"
#include "kernels/x86/avx2_common.h"
#include "kernels/x86/avx2_kernels.h"

namespace nestling {
namespace {

using namespace avx2;

constexpr int kQuad = 4;           // rows coded together
constexpr int64_t kSpan = 32;      // inputs of a step
constexpr int64_t kSpanWords = kSpan / 4;

struct Quad {
  const float* rows[kQuad];
  DenseRowCoding coding[kQuad];
};

NESTLING_AVX2_INLINE float max_of(__m256 v) {
  __m128 m = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  m = _mm_max_ps(m, _mm_movehl_ps(m, m));
  return _mm_cvtss_f32(_mm_max_ss(m, _mm_movehdup_ps(m)));
}

DenseRowCoding coding_of(const float* x, int64_t cols) {
  const __m256 zero = _mm256_setzero_ps();
  __m256 lows[4] = {zero, zero, zero, zero}, highs[4] = {zero, zero, zero, zero};
  int64_t i = 0;
  for (; i + kSpan <= cols; i += kSpan)
    NESTLING_UNROLL for (int v = 0; v < 4; ++v) {
      const __m256 values = _mm256_loadu_ps(x + i + 8 * v);
      lows[v] = _mm256_min_ps(lows[v], values);
      highs[v] = _mm256_max_ps(highs[v], values);
    }
  const __m256 lowest = _mm256_min_ps(_mm256_min_ps(lows[0], lows[1]), _mm256_min_ps(lows[2], lows[3]));
  const __m256 highest = _mm256_max_ps(_mm256_max_ps(highs[0], highs[1]), _mm256_max_ps(highs[2], highs[3]));
  float low = -max_of(_mm256_sub_ps(zero, lowest)), high = max_of(highest);
  for (; i < cols; ++i) low = std::min(low, x[i]), high = std::max(high, x[i]);
  return dense_row_coding(low, high);
}

// The codes of 32 inputs of a row. Packing leaves word 0, 2, 4, 6 in the lower half and 1, 3, 5, 7 in the upper.
NESTLING_AVX2_INLINE __m256i code32(const float* x, const DenseRowCoding& row) {
  const __m256 inverse = _mm256_set1_ps(row.inverse);
  const __m256i zero = _mm256_set1_epi32(row.zero);
  __m256i q[4];
  NESTLING_UNROLL for (int v = 0; v < 4; ++v)
    q[v] = _mm256_sub_epi32(_mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x + 8 * v), inverse)), zero);
  return _mm256_packs_epi16(_mm256_packs_epi32(q[0], q[1]), _mm256_packs_epi32(q[2], q[3]));
}

// words[i] = word 2i of the four rows, then word 2i + 1 of the four rows.
NESTLING_AVX2_INLINE void code_quad(const Quad& quad, int64_t col, __m256i words[4], __m256i& sums) {
  __m256i c[kQuad];
  NESTLING_UNROLL for (int r = 0; r < kQuad; ++r) c[r] = code32(quad.rows[r] + col, quad.coding[r]);
  const __m256i a = _mm256_unpacklo_epi32(c[0], c[1]), b = _mm256_unpacklo_epi32(c[2], c[3]);
  const __m256i d = _mm256_unpackhi_epi32(c[0], c[1]), e = _mm256_unpackhi_epi32(c[2], c[3]);
  words[0] = _mm256_unpacklo_epi64(a, b);
  words[1] = _mm256_unpackhi_epi64(a, b);
  words[2] = _mm256_unpacklo_epi64(d, e);
  words[3] = _mm256_unpackhi_epi64(d, e);
  const __m256i ones = _mm256_set1_epi8(1);
  __m256i pairs = _mm256_maddubs_epi16(ones, words[0]);
  NESTLING_UNROLL for (int i = 1; i < 4; ++i) pairs = _mm256_add_epi16(pairs, _mm256_maddubs_epi16(ones, words[i]));
  sums = _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}

// `count` words of the first `rows` rows.
void store_some(const __m256i words[4], int rows, int64_t count, int32_t* out, int64_t step) {
  alignas(32) int32_t all[kSpanWords][kQuad];
  std::memcpy(all, words, sizeof(all));
  for (int64_t i = 0; i < count; ++i) std::memcpy(out + i * step, all[i], rows * sizeof(int32_t));
}

NESTLING_AVX2_INLINE void store_all(const __m256i words[4], int32_t* out, int64_t step) {
  NESTLING_UNROLL for (int i = 0; i < 4; ++i) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out + 2 * i * step), _mm256_castsi256_si128(words[i]));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out + (2 * i + 1) * step), _mm256_extracti128_si256(words[i], 1));
  }
}

// `rows` rows, at most four; `tile` is at the first of them and has `step` rows.
void code_rows(Quad& quad, int rows, int64_t cols, const DenseTile& tile, int64_t step) {
  for (int r = 0; r < kQuad; ++r) {
    if (r >= rows) {  // a row that is there, and is not kept
      quad.rows[r] = quad.rows[0];
      quad.coding[r] = {};
      continue;
    }
    quad.coding[r] = coding_of(quad.rows[r], cols);
    tile.scales[r] = quad.coding[r].scale;
    tile.zeros[r] = quad.coding[r].zero;
  }
  __m256i sums = _mm256_setzero_si256(), words[4];
  int32_t* out = tile.codes;
  int64_t col = 0;
  for (; col + kSpan <= cols; col += kSpan, out += kSpanWords * step) {
    code_quad(quad, col, words, sums);
    if (rows == kQuad)
      store_all(words, out, step);
    else
      store_some(words, rows, kSpanWords, out, step);
  }
  alignas(16) int32_t all[kQuad];
  _mm_store_si128(reinterpret_cast<__m128i*>(all),
                  _mm_add_epi32(_mm256_castsi256_si128(sums), _mm256_extracti128_si256(sums, 1)));
  std::memcpy(tile.sums, all, rows * sizeof(int32_t));
  for (int r = 0; r < rows; ++r)
    tile.sums[r] += dense_code_tail(quad.rows[r], col, cols, quad.coding[r], tile.codes + r, step);
}

}  // namespace

void avx2_dense_code(const float* x, int64_t stride, int rows, int64_t cols, const DenseTile& out) {
  for (int first = 0; first < rows; first += kQuad) {
    const int count = std::min(kQuad, rows - first);
    Quad quad;
    for (int r = 0; r < count; ++r) quad.rows[r] = x + (first + r) * stride;
    code_rows(quad, count, cols, {out.codes + first, out.sums + first, out.zeros + first, out.scales + first}, rows);
  }
}

}  // namespace nestling
