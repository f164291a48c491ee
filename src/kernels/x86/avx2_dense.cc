#include "kernels/x86/avx2_dense.h"
#include "kernels/x86/avx2_kernels.h"

namespace nestling {
namespace {

using namespace avx2;

// pmaddubsw wants one operand unsigned: |w|. Its sign moves to x by flipping all bits of x where w is negative: ~x is
// -x - 1, so that sum |w| over the negative w is missing, whatever x is. A flip costs any of the four pipes one step;
// psignb, which would be exact, needs a multiplier's.
NESTLING_AVX2_INLINE void add_flipped_dot(__m256i& acc, __m256i abs_w, __m256i negative, __m256i x, __m256i ones) {
  __m256i products;
  asm volatile(
      "vpxor %3, %4, %1\n\tvpmaddubsw %1, %2, %1\n\tvpmaddwd %5, %1, %1\n\tvpaddd %1, %0, %0"
      : "+x"(acc), "=&x"(products)
      : "x"(abs_w), "x"(negative), "x"(x), "x"(ones));
}

template <int kRows>
void tile(const DenseArgs& a) {
  const __m256i ones = _mm256_set1_epi16(1), zero = _mm256_setzero_si256();
  __m256i dot[kRows][2];
  NESTLING_UNROLL for (int m = 0; m < kRows; ++m) {
    const __m256i row_zero = _mm256_set1_epi32(a.x.zeros[m]);
    NESTLING_UNROLL for (int half = 0; half < 2; ++half)
      dot[m][half] = _mm256_add_epi32(load(a.negative_sums + 8 * half),
                                      _mm256_mullo_epi32(load(a.sums + 8 * half), row_zero));
  }
  const std::byte* w = a.w;
  const int32_t* x = a.x.codes;
  for (int64_t word = 0; word < a.words; ++word, w += kLineBytes, x += kRows) {
    const __m256i w0 = load(w), w1 = load(w + 32);
    const __m256i abs0 = _mm256_abs_epi8(w0), abs1 = _mm256_abs_epi8(w1);
    const __m256i negative0 = _mm256_cmpgt_epi8(zero, w0), negative1 = _mm256_cmpgt_epi8(zero, w1);
    NESTLING_UNROLL for (int m = 0; m < kRows; ++m) {
      const __m256i xx = _mm256_set1_epi32(x[m]);
      add_flipped_dot(dot[m][0], abs0, negative0, xx, ones);
      add_flipped_dot(dot[m][1], abs1, negative1, xx, ones);
    }
  }
  store_dense(a, dot);
}

// i16: pmaddwd takes both operands signed, so that a step is two instructions.
NESTLING_AVX2_INLINE void add_words(__m256i& acc, __m256i w, __m256i x) {
  __m256i products;
  asm volatile("vpmaddwd %3, %2, %1\n\tvpaddd %1, %0, %0" : "+x"(acc), "=&x"(products) : "x"(w), "x"(x));
}

template <int kRows>
void tile16(const DenseArgs& a) {
  __m256i dot[kRows][2];
  NESTLING_UNROLL for (int m = 0; m < kRows; ++m) dot[m][0] = dot[m][1] = _mm256_setzero_si256();
  const std::byte* w = a.w;
  const int32_t* x = a.x.codes;
  for (int64_t word = 0; word < a.words; ++word, w += kLineBytes, x += kRows) {
    const __m256i w0 = load(w), w1 = load(w + 32);
    NESTLING_UNROLL for (int m = 0; m < kRows; ++m) {
      const __m256i xx = _mm256_set1_epi32(x[m]);
      add_words(dot[m][0], w0, xx);
      add_words(dot[m][1], w1, xx);
    }
  }
  store_dense(a, dot);
}

}  // namespace

void avx2_dense16(const DenseArgs& a) {
  switch (a.rows) {
    case 1: return tile16<1>(a);
    case 2: return tile16<2>(a);
    case 3: return tile16<3>(a);
    case 4: return tile16<4>(a);
    case 5: return tile16<5>(a);
    case 6: return tile16<6>(a);
  }
}

void avx2_dense(const DenseArgs& a) {
  switch (a.rows) {
    case 1: return tile<1>(a);
    case 2: return tile<2>(a);
    case 3: return tile<3>(a);
    case 4: return tile<4>(a);
  }
}

void avx2_dense_sums(const std::byte* w, int64_t words, int32_t* sums, int32_t* negative_sums) {
  const __m256i ones = _mm256_set1_epi16(1), byte_ones = _mm256_set1_epi8(1), zero = _mm256_setzero_si256();
  __m256i all[2] = {zero, zero}, negative[2] = {zero, zero};
  for (int64_t word = 0; word < words; ++word, w += kLineBytes)
    NESTLING_UNROLL for (int half = 0; half < 2; ++half) {
      const __m256i codes = load(w + 32 * half);
      const __m256i magnitudes = _mm256_abs_epi8(_mm256_min_epi8(codes, zero));
      const __m256i pairs = _mm256_maddubs_epi16(magnitudes, byte_ones);
      negative[half] = _mm256_add_epi32(negative[half], _mm256_madd_epi16(pairs, ones));
      all[half] = _mm256_add_epi32(all[half], _mm256_madd_epi16(_mm256_maddubs_epi16(byte_ones, codes), ones));
    }
  NESTLING_UNROLL for (int half = 0; half < 2; ++half) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(sums + 8 * half), all[half]);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(negative_sums + 8 * half), negative[half]);
  }
}

}  // namespace nestling
