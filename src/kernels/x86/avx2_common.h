// Loads and small steps that the AVX2 kernels share.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "kernels/unroll.h"
#include "tensor/layout.h"

namespace nestling::avx2 {

#define NESTLING_AVX2_INLINE [[gnu::always_inline]] inline

NESTLING_AVX2_INLINE __m256i load(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
NESTLING_AVX2_INLINE __m256 load_half8(const void* p) {
  return _mm256_cvtph_ps(_mm_loadu_si128(static_cast<const __m128i*>(p)));
}
NESTLING_AVX2_INLINE __m256 load_bf16x8(const void* p) {
  return _mm256_castsi256_ps(
      _mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128(static_cast<const __m128i*>(p))), 16));
}

// acc += w (unsigned bytes) * x (signed bytes), pairs added, in int16. One asm block: both compilers spill the tile or
// its broadcasts when they may schedule the two instructions apart.
NESTLING_AVX2_INLINE void multiply_add_bytes(__m256i& acc, __m256i w, __m256i x) {
  __m256i products;
  asm volatile("vpmaddubsw %3, %2, %1\n\tvpaddw %1, %0, %0" : "+x"(acc), "=&x"(products) : "x"(w), "x"(x));
}

struct CodePair {
  __m256i first, second;  // inputs 8j .. 8j+3 and 8j+4 .. 8j+7 of 8 lanes
};

// Step j (0 to 3) of a cell, lanes 8 * half to 8 * half + 7, as unsigned codes (q8: signed).
template <WeightType kType>
NESTLING_AVX2_INLINE CodePair load_codes(const std::byte* cell, int j, int half) {
  if constexpr (kType == WeightType::kQ8) {
    return {load(cell + 128 * j + 32 * half), load(cell + 128 * j + 64 + 32 * half)};
  } else {
    const __m256i low4 = _mm256_set1_epi8(15);
    const std::byte* line = kType == WeightType::kQ4 ? cell + 64 * j : cell + 192 * (j / 2) + 64 * (j % 2);
    const __m256i nibbles = load(line + 32 * half);
    CodePair codes{_mm256_and_si256(nibbles, low4), _mm256_and_si256(_mm256_srli_epi16(nibbles, 4), low4)};
    if constexpr (kType == WeightType::kQ6) {
      const __m256i bits45 = _mm256_set1_epi8(0x30);
      const __m256i high = load(cell + 192 * (j / 2) + 128 + 32 * half);
      const __m256i first = j % 2 == 0 ? _mm256_slli_epi16(high, 4) : high;
      const __m256i second = j % 2 == 0 ? _mm256_slli_epi16(high, 2) : _mm256_srli_epi16(high, 2);
      codes.first = _mm256_or_si256(codes.first, _mm256_and_si256(first, bits45));
      codes.second = _mm256_or_si256(codes.second, _mm256_and_si256(second, bits45));
    }
    return codes;
  }
}

// acc += w . x of signed bytes, in int32: |w| is the unsigned operand, its sign moves to x, which is never -128. One
// asm block for the same reason.
NESTLING_AVX2_INLINE void add_signed_dot(__m256i& acc, __m256i w, __m256i abs_w, __m256i x, __m256i ones) {
  __m256i products;
  asm volatile(
      "vpsignb %2, %4, %1\n\tvpmaddubsw %1, %3, %1\n\tvpmaddwd %5, %1, %1\n\tvpaddd %1, %0, %0"
      : "+x"(acc), "=&x"(products)
      : "x"(w), "x"(abs_w), "x"(x), "x"(ones));
}

}  // namespace nestling::avx2
