// Loads and small steps that the AVX-512 kernels share.
#pragma once

#if !defined(__clang__)
// GCC 12's own intrinsics start from a deliberately undefined register.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <immintrin.h>
#if !defined(__clang__)
#pragma GCC diagnostic pop
#endif

#include <cstddef>
#include <cstdint>

#include "kernels/unroll.h"
#include "tensor/layout.h"

#if defined(NESTLING_EMULATED_AVX512)  // emulated/avx512_testing.h was read before
#define NESTLING_AVX512
#else
#define NESTLING_AVX512 __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")))
#endif
#define NESTLING_AVX512_INLINE NESTLING_AVX512 __attribute__((always_inline)) inline

namespace nestling::avx512 {

// acc += w (unsigned bytes) . x (signed bytes), four products per int32. GCC 12 keeps a tile of __m512i in memory when
// the intrinsic is used, an asm operand in a register.
NESTLING_AVX512_INLINE __m512i dot_bytes(__m512i acc, __m512i w, __m512i x) {
#if defined(__clang__) || defined(NESTLING_EMULATED_AVX512)
  return _mm512_dpbusd_epi32(acc, w, x);
#else
  asm("vpdpbusd %2, %1, %0" : "+v"(acc) : "v"(w), "v"(x));
  return acc;
#endif
}

// The same for two products of int16 per int32.
NESTLING_AVX512_INLINE __m512i dot_words(__m512i acc, __m512i w, __m512i x) {
#if defined(__clang__) || defined(NESTLING_EMULATED_AVX512)
  return _mm512_dpwssd_epi32(acc, w, x);
#else
  asm("vpdpwssd %2, %1, %0" : "+v"(acc) : "v"(w), "v"(x));
  return acc;
#endif
}

NESTLING_AVX512_INLINE __m512 load_half16(const void* p) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(static_cast<const __m256i*>(p)));
}

struct CodePair {
  __m512i first, second;  // inputs 8j .. 8j+3 and 8j+4 .. 8j+7 of 16 lanes, unsigned
};

// A line of `4 * lanes` bytes; lanes that are not there are zero.
template <bool kWhole>
NESTLING_AVX512_INLINE __m512i load_line(const std::byte* cell, int64_t line, int64_t line_bytes, __mmask16 lanes) {
  if constexpr (kWhole)
    return _mm512_loadu_si512(cell + kLineBytes * line);
  else
    return _mm512_maskz_loadu_epi32(lanes, cell + line_bytes * line);
}

// Step j (0 to 3) of a cell.
template <WeightType kType, bool kWhole = true>
NESTLING_AVX512_INLINE CodePair load_codes(const std::byte* cell, int j, int64_t line_bytes = kLineBytes,
                                           __mmask16 lanes = 0xffff) {
  if constexpr (kType == WeightType::kQ8) {
    const __m512i flip = _mm512_set1_epi8(static_cast<char>(0x80));  // signed code + 128
    return {_mm512_xor_si512(load_line<kWhole>(cell, 2 * j, line_bytes, lanes), flip),
            _mm512_xor_si512(load_line<kWhole>(cell, 2 * j + 1, line_bytes, lanes), flip)};
  } else {
    const __m512i low4 = _mm512_set1_epi8(15);
    const int64_t line = kType == WeightType::kQ4 ? j : 3 * (j / 2) + j % 2;
    const __m512i nibbles = load_line<kWhole>(cell, line, line_bytes, lanes);
    CodePair codes{_mm512_and_si512(nibbles, low4), _mm512_and_si512(_mm512_srli_epi16(nibbles, 4), low4)};
    if constexpr (kType == WeightType::kQ6) {
      const __m512i bits45 = _mm512_set1_epi8(0x30);
      const __m512i high = load_line<kWhole>(cell, 3 * (j / 2) + 2, line_bytes, lanes);
      const __m512i first = j % 2 == 0 ? _mm512_slli_epi16(high, 4) : high;
      const __m512i second = j % 2 == 0 ? _mm512_slli_epi16(high, 2) : _mm512_srli_epi16(high, 2);
      constexpr int kOrAnd = 0xf8;  // a | (b & c)
      codes.first = _mm512_ternarylogic_epi32(codes.first, first, bits45, kOrAnd);
      codes.second = _mm512_ternarylogic_epi32(codes.second, second, bits45, kOrAnd);
    }
    return codes;
  }
}

// -8 * sum of the codes of x, scaled to the offset of the unsigned weights (8, 32 or 128).
template <WeightType kType>
NESTLING_AVX512_INLINE __m512i scale_correction(__m512i correction) {
  if constexpr (kType == WeightType::kQ4) return correction;
  return _mm512_slli_epi32(correction, kType == WeightType::kQ6 ? 2 : 4);
}

}  // namespace nestling::avx512
