#include <utility>

#include "kernels/x86/avx512_common.h"
#include "kernels/x86/avx512_kernels.h"

namespace nestling {
namespace {

using namespace avx512;

// y = dot * (w_scale * x_scale).
template <int kRows, int kGroups>
NESTLING_AVX512_INLINE void store(const DenseArgs& a, const __m512i (&dot)[kGroups][kRows]) {
  NESTLING_UNROLL for (int g = 0; g < kGroups; ++g) {
    const __m512 w_scale = _mm512_loadu_ps(a.w + g * a.w_stream + dense_code_bytes(a.words));
    NESTLING_UNROLL for (int m = 0; m < kRows; ++m) {
      const __m512 scale = _mm512_mul_ps(w_scale, _mm512_set1_ps(a.x.scales[m]));
      _mm512_storeu_ps(a.y + m * a.y_stride + g * kRowGroup, _mm512_mul_ps(_mm512_cvtepi32_ps(dot[g][m]), scale));
    }
  }
}

// All inputs at once: 24 sums of 12 rows x 32 outputs stay in registers, weights come from the cache and are made
// unsigned on the way, which starting the sums at -128 * (sum of the row's codes) takes back; what the row's zero adds is
// there from the start too.
template <int kRows, int kGroups>
NESTLING_AVX512 void tile(const DenseArgs& a) {
  const __m512i flip = _mm512_set1_epi8(static_cast<char>(0x80));
  __m512i dot[kGroups][kRows];
  NESTLING_UNROLL for (int m = 0; m < kRows; ++m)
    NESTLING_UNROLL for (int g = 0; g < kGroups; ++g)
      dot[g][m] = _mm512_add_epi32(_mm512_set1_epi32(-128 * a.x.sums[m]),
                                   _mm512_mullo_epi32(_mm512_loadu_si512(a.sums + g * kRowGroup),
                                                      _mm512_set1_epi32(a.x.zeros[m])));
  const std::byte* w = a.w;
  const int32_t* x = a.x.codes;
  for (int64_t word = 0; word < a.words; ++word, w += kLineBytes, x += kRows) {
    __m512i weights[kGroups];
    NESTLING_UNROLL for (int g = 0; g < kGroups; ++g)
      weights[g] = _mm512_xor_si512(_mm512_loadu_si512(w + g * a.w_stream), flip);
    NESTLING_UNROLL for (int m = 0; m < kRows; ++m) {
      const __m512i xx = _mm512_set1_epi32(x[m]);
      NESTLING_UNROLL for (int g = 0; g < kGroups; ++g) dot[g][m] = dot_bytes(dot[g][m], weights[g], xx);
    }
  }
  store(a, dot);
}

// The same for i16: nothing has to be made unsigned.
template <int kRows, int kGroups>
NESTLING_AVX512 void tile16(const DenseArgs& a) {
  __m512i dot[kGroups][kRows];
  NESTLING_UNROLL for (int m = 0; m < kRows; ++m)
    NESTLING_UNROLL for (int g = 0; g < kGroups; ++g) dot[g][m] = _mm512_setzero_si512();
  const std::byte* w = a.w;
  const int32_t* x = a.x.codes;
  for (int64_t word = 0; word < a.words; ++word, w += kLineBytes, x += kRows) {
    __m512i weights[kGroups];
    NESTLING_UNROLL for (int g = 0; g < kGroups; ++g) weights[g] = _mm512_loadu_si512(w + g * a.w_stream);
    NESTLING_UNROLL for (int m = 0; m < kRows; ++m) {
      const __m512i xx = _mm512_set1_epi32(x[m]);
      NESTLING_UNROLL for (int g = 0; g < kGroups; ++g) dot[g][m] = dot_words(dot[g][m], weights[g], xx);
    }
  }
  store(a, dot);
}

using Tile = void (*)(const DenseArgs&);
template <int kGroups, int... kRow>
constexpr void run_tile(const DenseArgs& a, std::integer_sequence<int, kRow...>) {
  static constexpr Tile kTiles[] = {tile<kRow + 1, kGroups>...};
  kTiles[a.rows - 1](a);
}
template <int kGroups, int... kRow>
constexpr void run_tile16(const DenseArgs& a, std::integer_sequence<int, kRow...>) {
  static constexpr Tile kTiles[] = {tile16<kRow + 1, kGroups>...};
  kTiles[a.rows - 1](a);
}

}  // namespace

NESTLING_AVX512 void avx512_dense_sums(const std::byte* w, int64_t words, int32_t* sums, int32_t*) {
  const __m512i ones = _mm512_set1_epi8(1);
  __m512i all = _mm512_setzero_si512();
  for (int64_t word = 0; word < words; ++word, w += kLineBytes) all = dot_bytes(all, ones, _mm512_loadu_si512(w));
  _mm512_storeu_si512(sums, all);
}

void avx512_dense(const DenseArgs& a) {
  constexpr auto kRows = std::make_integer_sequence<int, 12>();
  a.groups == 2 ? run_tile<2>(a, kRows) : run_tile<1>(a, kRows);
}

void avx512_dense16(const DenseArgs& a) {
  constexpr auto kRows = std::make_integer_sequence<int, 12>();
  a.groups == 2 ? run_tile16<2>(a, kRows) : run_tile16<1>(a, kRows);
}

}  // namespace nestling
