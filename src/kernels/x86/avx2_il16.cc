#include "kernels/x86/avx2_il16.h"
#include "kernels/x86/avx2_kernels.h"

namespace nestling {
namespace {

using namespace avx2;

// ---- quantised weights

// One pmaddwd per block: with the offset's correction as the start the final int16 sum fits (8 * 127 * 16 = 16,256),
// and what wraps on the way does not matter.
template <int kTokens>
NESTLING_AVX2_INLINE void dot_q4(const std::byte* cell, const int32_t* x, const int32_t* corrections,
                                 BlockSums<kTokens>& sums) {
  __m256i acc[kTokens][2];
  NESTLING_UNROLL for (int m = 0; m < kTokens; ++m) acc[m][0] = acc[m][1] = _mm256_set1_epi32(corrections[m]);
  NESTLING_UNROLL for (int j = 0; j < 4; ++j) {
    const CodePair top = load_codes<WeightType::kQ4>(cell, j, 0), bottom = load_codes<WeightType::kQ4>(cell, j, 1);
    NESTLING_UNROLL for (int m = 0; m < kTokens; ++m) {
      const __m256i xx = _mm256_set1_epi32(x[(2 * j) * kTokens + m]);
      multiply_add_bytes(acc[m][0], top.first, xx);
      multiply_add_bytes(acc[m][1], bottom.first, xx);
    }
    NESTLING_UNROLL for (int m = 0; m < kTokens; ++m) {
      const __m256i xx = _mm256_set1_epi32(x[(2 * j + 1) * kTokens + m]);
      multiply_add_bytes(acc[m][0], top.second, xx);
      multiply_add_bytes(acc[m][1], bottom.second, xx);
    }
  }
  const __m256i ones = _mm256_set1_epi16(1);
  NESTLING_UNROLL for (int m = 0; m < kTokens; ++m)
    NESTLING_UNROLL for (int half = 0; half < 2; ++half) sums.of[m][half] = _mm256_madd_epi16(acc[m][half], ones);
}

// Codes of 6 bits fill int16 after 16 inputs (32 * 127 * 8 = 32,512): two pmaddwd per block.
template <int kTokens>
NESTLING_AVX2_INLINE void dot_q6(const std::byte* cell, const int32_t* x, const int32_t* corrections,
                                 BlockSums<kTokens>& sums) {
  const __m256i ones = _mm256_set1_epi16(1);
  NESTLING_UNROLL for (int part = 0; part < 2; ++part) {
    __m256i acc[kTokens][2];
    NESTLING_UNROLL for (int m = 0; m < kTokens; ++m)
      acc[m][0] = acc[m][1] = _mm256_set1_epi32(corrections[(1 + part) * kTokens + m]);
    NESTLING_UNROLL for (int j = 2 * part; j < 2 * part + 2; ++j) {
      const CodePair top = load_codes<WeightType::kQ6>(cell, j, 0), bottom = load_codes<WeightType::kQ6>(cell, j, 1);
      NESTLING_UNROLL for (int m = 0; m < kTokens; ++m) {
        const __m256i x0 = _mm256_set1_epi32(x[(2 * j) * kTokens + m]);
        multiply_add_bytes(acc[m][0], top.first, x0);
        multiply_add_bytes(acc[m][1], bottom.first, x0);
        const __m256i x1 = _mm256_set1_epi32(x[(2 * j + 1) * kTokens + m]);
        multiply_add_bytes(acc[m][0], top.second, x1);
        multiply_add_bytes(acc[m][1], bottom.second, x1);
      }
    }
    NESTLING_UNROLL for (int m = 0; m < kTokens; ++m)
      NESTLING_UNROLL for (int half = 0; half < 2; ++half) {
        const __m256i sum = _mm256_madd_epi16(acc[m][half], ones);
        sums.of[m][half] = part == 0 ? sum : _mm256_add_epi32(sums.of[m][half], sum);
      }
  }
}

// At most 4 tokens together: int32 sums of more do not fit the registers.
template <int kTokens>
NESTLING_AVX2_INLINE void dot_q8(const std::byte* cell, const int32_t* x, BlockSums<kTokens>& sums) {
  constexpr int kTogether = kTokens <= 4 ? kTokens : (kTokens + 1) / 2;
  const __m256i ones = _mm256_set1_epi16(1);
  NESTLING_UNROLL for (int first = 0; first < kTokens; first += kTogether) {
    __m256i acc[kTogether][2];
    NESTLING_UNROLL for (int m = 0; m < kTogether; ++m) acc[m][0] = acc[m][1] = _mm256_setzero_si256();
    for (int k = 0; k < 8; ++k) {
      const __m256i w0 = load(cell + 64 * k), w1 = load(cell + 64 * k + 32);
      const __m256i abs0 = _mm256_abs_epi8(w0), abs1 = _mm256_abs_epi8(w1);
      NESTLING_UNROLL for (int m = 0; m < kTogether; ++m) {
        if (first + m >= kTokens) continue;
        const __m256i xx = _mm256_set1_epi32(x[k * kTokens + first + m]);
        add_signed_dot(acc[m][0], w0, abs0, xx, ones);
        add_signed_dot(acc[m][1], w1, abs1, xx, ones);
      }
    }
    NESTLING_UNROLL for (int m = 0; m < kTogether; ++m) {
      if (first + m >= kTokens) continue;
      sums.of[first + m][0] = acc[m][0];
      sums.of[first + m][1] = acc[m][1];
    }
  }
}

struct BlockDot {
  static constexpr int kCorrectionWords = correction_words(Corrections::kPacked);
  template <WeightType kType, int kTokens>
  NESTLING_AVX2_INLINE static void run(const std::byte* cell, const int32_t* x, const int32_t* corrections,
                                       BlockSums<kTokens>& sums) {
    if constexpr (kType == WeightType::kQ4)
      dot_q4<kTokens>(cell, x, corrections, sums);
    else if constexpr (kType == WeightType::kQ6)
      dot_q6<kTokens>(cell, x, corrections, sums);
    else
      dot_q8<kTokens>(cell, x, sums);
  }
};

// ---- float weights

template <WeightType kType>
NESTLING_AVX2_INLINE __m256 load_weights(const std::byte* w) {
  if constexpr (kType == WeightType::kF32)
    return _mm256_loadu_ps(reinterpret_cast<const float*>(w));
  else
    return load_bf16x8(w);
}

template <WeightType kType, int kTokens, int kStreams>
void float_tile(const Il16Args& a) {
  constexpr int64_t kBytes = float_bytes(kType);
  __m256 acc[kStreams][kTokens][2];
  NESTLING_UNROLL for (int s = 0; s < kStreams; ++s)
    NESTLING_UNROLL for (int m = 0; m < kTokens; ++m)
      NESTLING_UNROLL for (int half = 0; half < 2; ++half)
        acc[s][m][half] = a.accumulate ? _mm256_loadu_ps(a.y + m * a.y_stride + s * a.y_stream + 8 * half)
                                       : _mm256_setzero_ps();
  const std::byte* w = a.w;
  for (int64_t k = 0; k < a.cols; ++k, w += kLanes * kBytes) {
    __m256 weights[kStreams][2];
    NESTLING_UNROLL for (int s = 0; s < kStreams; ++s) {
      weights[s][0] = load_weights<kType>(w + s * a.w_stream);
      weights[s][1] = load_weights<kType>(w + s * a.w_stream + 8 * kBytes);
    }
    NESTLING_UNROLL for (int m = 0; m < kTokens; ++m) {
      const __m256 x = _mm256_broadcast_ss(a.x + m * a.x_stride + k);
      NESTLING_UNROLL for (int s = 0; s < kStreams; ++s)
        NESTLING_UNROLL for (int half = 0; half < 2; ++half)
          acc[s][m][half] = _mm256_fmadd_ps(weights[s][half], x, acc[s][m][half]);
    }
  }
  NESTLING_UNROLL for (int s = 0; s < kStreams; ++s)
    NESTLING_UNROLL for (int m = 0; m < kTokens; ++m)
      NESTLING_UNROLL for (int half = 0; half < 2; ++half)
        _mm256_storeu_ps(a.y + m * a.y_stride + s * a.y_stream + 8 * half, acc[s][m][half]);
}

// All streams, as many at a time as the registers hold.
template <WeightType kType, int kTokens>
void float_streams(const Il16Args& a) {
  constexpr int kTogether = kTokens == 1 ? 4 : kTokens <= 3 ? 2 : 1;
  Il16Args part = a;
  int left = a.streams;
  for (; left >= kTogether; left -= kTogether) {
    float_tile<kType, kTokens, kTogether>(part);
    part.w += kTogether * a.w_stream;
    part.y += kTogether * a.y_stream;
  }
  for (; left > 0; --left) {
    float_tile<kType, kTokens, 1>(part);
    part.w += a.w_stream;
    part.y += a.y_stream;
  }
}

template <WeightType kType>
void floats(const Il16Args& a) {
  switch (a.tokens) {
    case 1: return float_streams<kType, 1>(a);
    case 2: return float_streams<kType, 2>(a);
    case 3: return float_streams<kType, 3>(a);
    case 4: return float_streams<kType, 4>(a);
    case 5: return float_streams<kType, 5>(a);
    case 6: return float_streams<kType, 6>(a);
  }
}

}  // namespace

void avx2_il16_f32(const Il16Args& a) { floats<WeightType::kF32>(a); }
void avx2_il16_bf16(const Il16Args& a) { floats<WeightType::kBF16>(a); }
void avx2_il16_q8(const Il16Args& a) { quantized_il16<BlockDot, WeightType::kQ8>(a); }
void avx2_il16_q6(const Il16Args& a) { quantized_il16<BlockDot, WeightType::kQ6>(a); }
void avx2_il16_q4(const Il16Args& a) { quantized_il16<BlockDot, WeightType::kQ4>(a); }

}  // namespace nestling
