#include <algorithm>
#include <cstring>

#include "kernels/x86/avx2_common.h"
#include "kernels/x86/avx2_kernels.h"

namespace nestling {
namespace {

constexpr float kSmallestPeak = 1e-30f;

float largest_lane(__m256 v) {
  __m128 m = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  m = _mm_max_ps(m, _mm_movehl_ps(m, m));
  return _mm_cvtss_f32(_mm_max_ss(m, _mm_movehdup_ps(m)));
}

template <Corrections kForm>
void store_corrections(__m256i codes, int32_t* out) {
  // int16 sums of inputs k % 4 in {0, 1} and {2, 3}; then over the first and the second 16 inputs.
  __m256i sums = _mm256_maddubs_epi16(_mm256_set1_epi8(1), codes);
  sums = _mm256_add_epi16(sums, _mm256_shuffle_epi32(sums, 0x4e));
  sums = _mm256_add_epi16(sums, _mm256_shuffle_epi32(sums, 0xb1));
  const __m128i first = _mm256_castsi256_si128(sums), second = _mm256_extracti128_si256(sums, 1);
  const __m128i both = _mm_add_epi16(first, second);
  if constexpr (kForm == Corrections::kPacked) {
    out[0] = _mm_cvtsi128_si32(_mm_mullo_epi16(both, _mm_set1_epi16(-8)));
    out[1] = _mm_cvtsi128_si32(_mm_mullo_epi16(first, _mm_set1_epi16(-32)));
    out[2] = _mm_cvtsi128_si32(_mm_mullo_epi16(second, _mm_set1_epi16(-32)));
  } else {
    out[0] = _mm_cvtsi128_si32(_mm_madd_epi16(both, _mm_set1_epi16(-8)));
  }
}

template <Corrections kForm>
void quantize_block(const float* x, int8_t* codes, int32_t* corrections, float* scale) {
  const __m256 sign = _mm256_set1_ps(-0.0f);
  __m256 v[4], largest = _mm256_setzero_ps();
  NESTLING_UNROLL for (int i = 0; i < 4; ++i) {
    v[i] = _mm256_loadu_ps(x + 8 * i);
    largest = _mm256_max_ps(largest, _mm256_andnot_ps(sign, v[i]));
  }
  const float peak = largest_lane(largest);
  const bool zero = peak < kSmallestPeak;
  const __m256 inverse = _mm256_set1_ps(zero ? 0.0f : 127.0f / peak);
  __m256i q[4];
  NESTLING_UNROLL for (int i = 0; i < 4; ++i) q[i] = _mm256_cvtps_epi32(_mm256_mul_ps(v[i], inverse));
  const __m256i bytes = _mm256_packs_epi16(_mm256_packs_epi32(q[0], q[1]), _mm256_packs_epi32(q[2], q[3]));
  const __m256i ordered = _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(codes), ordered);
  store_corrections<kForm>(ordered, corrections);
  *scale = zero ? 0.0f : peak / 127.0f;
}

template <Corrections kForm>
void quantize(const float* x, int64_t cols, int8_t* codes, int32_t* corrections, float* scales) {
  const int64_t blocks = block_count(cols);
  for (int64_t block = 0; block < blocks; ++block) {
    const float* in = x + block * kQuantBlock;
    alignas(32) float padded[kQuantBlock] = {};
    if (const int64_t left = cols - block * kQuantBlock; left < kQuantBlock) {
      std::memcpy(padded, in, left * sizeof(float));
      in = padded;
    }
    quantize_block<kForm>(in, codes + block * kQuantBlock, corrections + block * correction_words(kForm),
                          scales + block);
  }
}

}  // namespace

void avx2_quantize_packed(const float* x, int64_t cols, int8_t* codes, int32_t* corrections, float* scales) {
  quantize<Corrections::kPacked>(x, cols, codes, corrections, scales);
}

void avx2_quantize_sums(const float* x, int64_t cols, int8_t* codes, int32_t* corrections, float* scales) {
  quantize<Corrections::kSums>(x, cols, codes, corrections, scales);
}

}  // namespace nestling
