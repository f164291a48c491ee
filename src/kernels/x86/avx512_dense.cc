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

// What the sums of row m start with. i8 weights are made unsigned on the way, which -128 * (sum of the row's codes) takes
// back; what the row's zero adds is there from the start too. i16 needs neither.
template <WeightType kType>
NESTLING_AVX512_INLINE __m512i start(const DenseArgs& a, int m, int g) {
  if constexpr (kType == WeightType::kI16) return _mm512_setzero_si512();
  return _mm512_add_epi32(_mm512_set1_epi32(-128 * a.x.sums[m]),
                          _mm512_mullo_epi32(_mm512_loadu_si512(a.sums + g * kRowGroup), _mm512_set1_epi32(a.x.zeros[m])));
}

template <WeightType kType>
NESTLING_AVX512_INLINE __m512i load_word(const std::byte* w) {
  if constexpr (kType == WeightType::kI16) return _mm512_loadu_si512(w);
  return _mm512_xor_si512(_mm512_loadu_si512(w), _mm512_set1_epi8(static_cast<char>(0x80)));
}

template <WeightType kType>
NESTLING_AVX512_INLINE __m512i dot_word(__m512i acc, __m512i w, __m512i x) {
  if constexpr (kType == WeightType::kI16) return dot_words(acc, w, x);
  return dot_bytes(acc, w, x);
}

// All inputs at once: 24 sums of 12 rows x 32 outputs stay in registers, weights come from the cache.
template <WeightType kType, int kRows, int kGroups>
NESTLING_AVX512 void tile(const DenseArgs& a) {
  __m512i dot[kGroups][kRows];
  NESTLING_UNROLL for (int m = 0; m < kRows; ++m)
    NESTLING_UNROLL for (int g = 0; g < kGroups; ++g) dot[g][m] = start<kType>(a, m, g);
  const std::byte* w = a.w;
  const int32_t* x = a.x.codes;
  for (int64_t word = 0; word < a.words; ++word, w += kLineBytes, x += kRows) {
    __m512i weights[kGroups];
    NESTLING_UNROLL for (int g = 0; g < kGroups; ++g) weights[g] = load_word<kType>(w + g * a.w_stream);
    NESTLING_UNROLL for (int m = 0; m < kRows; ++m) {
      const __m512i xx = _mm512_set1_epi32(x[m]);
      NESTLING_UNROLL for (int g = 0; g < kGroups; ++g) dot[g][m] = dot_word<kType>(dot[g][m], weights[g], xx);
    }
  }
  store(a, dot);
}

template <WeightType kType, int kGroups, int... kRow>
void run_tile(const DenseArgs& a, std::integer_sequence<int, kRow...>) {
  static constexpr void (*kTiles[])(const DenseArgs&) = {tile<kType, kRow + 1, kGroups>...};
  kTiles[a.rows - 1](a);
}

template <WeightType kType>
void run(const DenseArgs& a) {
  constexpr auto kRows = std::make_integer_sequence<int, 12>();
  a.groups == 2 ? run_tile<kType, 2>(a, kRows) : run_tile<kType, 1>(a, kRows);
}

}  // namespace

NESTLING_AVX512 void avx512_dense_sums(const std::byte* w, int64_t words, int32_t* sums, int32_t*) {
  const __m512i ones = _mm512_set1_epi8(1);
  __m512i all = _mm512_setzero_si512();
  for (int64_t word = 0; word < words; ++word, w += kLineBytes) all = dot_bytes(all, ones, _mm512_loadu_si512(w));
  _mm512_storeu_si512(sums, all);
}

void avx512_dense(const DenseArgs& a) { run<WeightType::kI8>(a); }
void avx512_dense16(const DenseArgs& a) { run<WeightType::kI16>(a); }

}  // namespace nestling
