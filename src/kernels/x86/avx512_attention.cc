#include <utility>

#include "kernels/attention_kernel.h"
#include "kernels/x86/avx512_common.h"
#include "kernels/x86/avx512_kernels.h"

namespace nestling {
namespace {

// Element `e` of 16 words, as floats.
template <KvType kType>
NESTLING_AVX512_INLINE __m512 element(__m512i words, int e) {
  if constexpr (kType == KvType::kF32) return _mm512_castsi512_ps(words);
  if constexpr (kType == KvType::kBF16)
    return _mm512_castsi512_ps(e == 0 ? _mm512_slli_epi32(words, 16)
                                      : _mm512_and_si512(words, _mm512_set1_epi32(static_cast<int>(0xffff0000u))));
  return _mm512_cvtepi32_ps(_mm512_srai_epi32(e == 3 ? words : _mm512_slli_epi32(words, 24 - 8 * e), 24));
}

NESTLING_AVX512_INLINE void prefetch(const std::byte* next, int64_t line) {
  if (next != nullptr) _mm_prefetch(next + line * kKvLineBytes, _MM_HINT_T1);
}

// Both groups of keys at once: 2 sums per query.
template <KvType kType, int kQueries>
NESTLING_AVX512 void scores(const AttentionBlock& a) {
  constexpr int kElements = static_cast<int>(elements_per_word(kType));
  const int64_t lines = key_lines(kType, a.head_dim);
  const std::byte *first = a.keys, *second = a.keys + lines * kKvLineBytes;
  const float* q = a.q;
  __m512 acc[kQueries][2];
  NESTLING_UNROLL for (int m = 0; m < kQueries; ++m) acc[m][0] = acc[m][1] = _mm512_setzero_ps();
  for (int64_t line = 0; line < lines; ++line, first += kKvLineBytes, second += kKvLineBytes) {
    prefetch(a.next, 2 * line);
    prefetch(a.next, 2 * line + 1);
    const __m512i words0 = _mm512_loadu_si512(first), words1 = _mm512_loadu_si512(second);
    NESTLING_UNROLL for (int e = 0; e < kElements; ++e, q += kQueries) {
      const __m512 k0 = element<kType>(words0, e), k1 = element<kType>(words1, e);
      NESTLING_UNROLL for (int m = 0; m < kQueries; ++m) {
        const __m512 x = _mm512_set1_ps(q[m]);
        acc[m][0] = _mm512_fmadd_ps(k0, x, acc[m][0]);
        acc[m][1] = _mm512_fmadd_ps(k1, x, acc[m][1]);
      }
    }
  }
  NESTLING_UNROLL for (int m = 0; m < kQueries; ++m)
    NESTLING_UNROLL for (int group = 0; group < 2; ++group) {
      const int64_t at = group * kKvLanes;
      if constexpr (kType == KvType::kQ8) acc[m][group] = _mm512_mul_ps(acc[m][group], _mm512_loadu_ps(a.key_scales + at));
      _mm512_storeu_ps(a.scores + m * kKvBlock + at, acc[m][group]);
    }
}

template <KvType kType, int kQueries>
NESTLING_AVX512 void sums(const AttentionBlock& a) {
  constexpr int kElements = static_cast<int>(elements_per_word(kType));
  // Up to 16 sums of 16 dimensions: one line of bf16 for 8 queries, half the elements of a line of q8 at a time.
  constexpr int kTogether = kElements > 2 ? 2 : kElements;
  const int64_t lines = value_lines(kType, a.head_dim), width = padded_head_dim(a.head_dim);
  for (int64_t line = 0; line < lines; ++line)
    for (int first = 0; first < kElements; first += kTogether) {
      float* out = a.sums + (line * kElements + first) * kKvLanes;
      __m512 acc[kQueries][kTogether];
      NESTLING_UNROLL for (int m = 0; m < kQueries; ++m)
        NESTLING_UNROLL for (int e = 0; e < kTogether; ++e)
          acc[m][e] = _mm512_mul_ps(_mm512_loadu_ps(out + m * width + e * kKvLanes), _mm512_set1_ps(a.scales[m]));
      const std::byte* values = a.values + line * kKvLineBytes;
      for (int64_t j = 0; j < kKvBlock; ++j, values += lines * kKvLineBytes) {
        if (first == 0) prefetch(a.next, line * kKvBlock + j);
        const __m512i words = _mm512_loadu_si512(values);
        __m512 v[kTogether];
        NESTLING_UNROLL for (int e = 0; e < kTogether; ++e) v[e] = element<kType>(words, first + e);
        NESTLING_UNROLL for (int m = 0; m < kQueries; ++m) {
          const __m512 w = _mm512_set1_ps(a.scores[m * kKvBlock + j]);
          NESTLING_UNROLL for (int e = 0; e < kTogether; ++e) acc[m][e] = _mm512_fmadd_ps(v[e], w, acc[m][e]);
        }
      }
      NESTLING_UNROLL for (int m = 0; m < kQueries; ++m)
        NESTLING_UNROLL for (int e = 0; e < kTogether; ++e)
          _mm512_storeu_ps(out + m * width + e * kKvLanes, acc[m][e]);
    }
}

using Function = void (*)(const AttentionBlock&);

template <KvType kType, int... kQuery>
void scores_of(const AttentionBlock& a, std::integer_sequence<int, kQuery...>) {
  static constexpr Function kFunctions[] = {scores<kType, kQuery + 1>...};
  kFunctions[a.queries - 1](a);
}

template <KvType kType, int... kQuery>
void sums_of(const AttentionBlock& a, std::integer_sequence<int, kQuery...>) {
  static constexpr Function kFunctions[] = {sums<kType, kQuery + 1>...};
  kFunctions[a.queries - 1](a);
}

constexpr auto kQueryCounts = std::make_integer_sequence<int, kMostQueries>();

template <KvType kType>
void scores_any(const AttentionBlock& a) { scores_of<kType>(a, kQueryCounts); }
template <KvType kType>
void sums_any(const AttentionBlock& a) { sums_of<kType>(a, kQueryCounts); }

}  // namespace

constinit const AttentionKernel kAvx512Attention = {
    .queries = kMostQueries,
    .scores = {scores_any<KvType::kF32>, scores_any<KvType::kBF16>, scores_any<KvType::kQ8>},
    .sums = {sums_any<KvType::kF32>, sums_any<KvType::kBF16>, sums_any<KvType::kQ8>},
};

}  // namespace nestling
