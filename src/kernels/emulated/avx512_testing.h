// Read before each source of the AVX-512 set of which nestling_avx512_emulated_test is built, so that the set is tested
// where the processor lacks its instructions too. SIMDe (https://github.com/simd-everywhere/simde) says what an intrinsic
// means; the six that its release in Debian 12 lacks are written as the vectors of the compiler.
#pragma once

#include <immintrin.h>
#include <simde/x86/avx512.h>

#include <cstdint>
#include <cstring>

namespace nestling::avx512_emulated {

using Words = int32_t __attribute__((vector_size(64)));
using Halves = uint16_t __attribute__((vector_size(32)));
using UnsignedWords = uint32_t __attribute__((vector_size(64)));

inline __m512 cvtepi32_ps(__m512i a) { return __builtin_convertvector(reinterpret_cast<Words>(a), __m512); }

inline __m512i cvtepu16_epi32(__m256i a) {
  return reinterpret_cast<__m512i>(__builtin_convertvector(reinterpret_cast<Halves>(a), UnsignedWords));
}

inline __m512i srai_epi32(__m512i a, unsigned count) {
  return reinterpret_cast<__m512i>(reinterpret_cast<Words>(a) >> static_cast<int>(count));
}

inline __m256 extractf32x8_ps(__m512 a, int half) {
  __m256 part[2];
  std::memcpy(part, &a, sizeof(a));
  return part[half];
}

inline __m512 cvtph_ps(__m256i a) {
  const __m256 half[2] = {_mm256_cvtph_ps(_mm256_castsi256_si128(a)), _mm256_cvtph_ps(_mm256_extracti128_si256(a, 1))};
  __m512 whole;
  std::memcpy(&whole, half, sizeof(whole));
  return whole;
}

// Lanes that are masked out are not read.
inline __m512i maskz_loadu_epi32(__mmask16 lanes, const void* p) {
  int32_t words[16] = {};
  for (int i = 0; i < 16; ++i)
    if ((lanes >> i & 1) != 0) std::memcpy(&words[i], static_cast<const char*>(p) + 4 * i, 4);
  return simde_mm512_loadu_si512(words);
}

}  // namespace nestling::avx512_emulated

// Some are macros already.
#define _mm512_cvtepi32_ps nestling::avx512_emulated::cvtepi32_ps
#define _mm512_cvtepu16_epi32 nestling::avx512_emulated::cvtepu16_epi32
#define _mm512_srai_epi32 nestling::avx512_emulated::srai_epi32
#define _mm512_cvtph_ps nestling::avx512_emulated::cvtph_ps
#define _mm512_maskz_loadu_epi32 nestling::avx512_emulated::maskz_loadu_epi32
#undef _mm512_extractf32x8_ps
#define _mm512_extractf32x8_ps nestling::avx512_emulated::extractf32x8_ps
#define _mm512_add_epi32 simde_mm512_add_epi32
#define _mm512_and_si512 simde_mm512_and_si512
#define _mm512_castps512_ps256 simde_mm512_castps512_ps256
#define _mm512_castsi512_ps simde_mm512_castsi512_ps
#define _mm512_dpbusd_epi32 simde_mm512_dpbusd_epi32
#define _mm512_dpwssd_epi32 simde_mm512_dpwssd_epi32
#define _mm512_fmadd_ps simde_mm512_fmadd_ps
#define _mm512_loadu_ps simde_mm512_loadu_ps
#define _mm512_loadu_si512 simde_mm512_loadu_si512
#define _mm512_mul_ps simde_mm512_mul_ps
#define _mm512_mullo_epi32 simde_mm512_mullo_epi32
#define _mm512_set1_epi32 simde_mm512_set1_epi32
#define _mm512_set1_epi8 simde_mm512_set1_epi8
#define _mm512_set1_ps simde_mm512_set1_ps
#undef _mm512_setzero_ps
#define _mm512_setzero_ps simde_mm512_setzero_ps
#undef _mm512_setzero_si512
#define _mm512_setzero_si512 simde_mm512_setzero_si512
#undef _mm512_slli_epi16
#define _mm512_slli_epi16 simde_mm512_slli_epi16
#undef _mm512_slli_epi32
#define _mm512_slli_epi32 simde_mm512_slli_epi32
#undef _mm512_srli_epi16
#define _mm512_srli_epi16 simde_mm512_srli_epi16
#define _mm512_storeu_ps simde_mm512_storeu_ps
#define _mm512_storeu_si512 simde_mm512_storeu_si512
#undef _mm512_ternarylogic_epi32
#define _mm512_ternarylogic_epi32 simde_mm512_ternarylogic_epi32
#define _mm512_xor_si512 simde_mm512_xor_si512
