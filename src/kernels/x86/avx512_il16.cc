#include "kernels/x86/avx512_common.h"
#include "kernels/x86/avx512_kernels.h"

namespace nestling {
namespace {

using namespace avx512;

// From 4 tokens on, asking for the lines this far ahead is worth 5 to 15 % where weights come from memory and costs 1 %
// where they do not; with fewer tokens it costs 20 % (measured on Zen 4).
constexpr int64_t kPrefetchBytes = 4608;
constexpr int kPrefetchTokens = 4;

template <WeightType kType>
NESTLING_AVX512_INLINE void prefetch_cell(const std::byte* cell) {
  for (int64_t at = 0; at < cell_bytes(kType); at += kLineBytes) _mm_prefetch(cell + at, _MM_HINT_T0);
}

template <WeightType kType, int kTokens, int kStreams>
NESTLING_AVX512 void quantized_tile(const Il16Args& a) {
  __m512 acc[kStreams][kTokens];
  NESTLING_UNROLL for (int s = 0; s < kStreams; ++s)
    NESTLING_UNROLL for (int m = 0; m < kTokens; ++m)
      acc[s][m] = a.accumulate ? _mm512_loadu_ps(a.y + m * a.y_stride + s * a.y_stream) : _mm512_setzero_ps();
  const int32_t* x = a.tile.codes;
  const int32_t* corrections = a.tile.corrections;
  const float* x_scales = a.tile.scales;
  const std::byte* w = a.w;  // superblock
  const int64_t blocks = a.cols / kQuantBlock;
  for (int64_t block = 0; block < blocks; ++block) {
    const std::byte* cell = w + kLineBytes + (block % 2) * cell_bytes(kType);
    if constexpr (kTokens >= kPrefetchTokens) {
      for (int s = 0; s < kStreams; ++s) prefetch_cell<kType>(cell + s * a.w_stream + kPrefetchBytes);
    }
    __m512i dot[kStreams][kTokens];
    NESTLING_UNROLL for (int m = 0; m < kTokens; ++m) {
      const __m512i start = scale_correction<kType>(_mm512_set1_epi32(corrections[m]));
      NESTLING_UNROLL for (int s = 0; s < kStreams; ++s) dot[s][m] = start;
    }
    NESTLING_UNROLL for (int j = 0; j < 4; ++j) {
      CodePair codes[kStreams];
      NESTLING_UNROLL for (int s = 0; s < kStreams; ++s) codes[s] = load_codes<kType>(cell + s * a.w_stream, j);
      NESTLING_UNROLL for (int m = 0; m < kTokens; ++m) {
        const __m512i xx = _mm512_set1_epi32(x[(2 * j) * kTokens + m]);
        NESTLING_UNROLL for (int s = 0; s < kStreams; ++s) dot[s][m] = dot_bytes(dot[s][m], codes[s].first, xx);
      }
      NESTLING_UNROLL for (int m = 0; m < kTokens; ++m) {
        const __m512i xx = _mm512_set1_epi32(x[(2 * j + 1) * kTokens + m]);
        NESTLING_UNROLL for (int s = 0; s < kStreams; ++s) dot[s][m] = dot_bytes(dot[s][m], codes[s].second, xx);
      }
      // Loads stay in their step: clang would hoist those of q8 and spill the sums.
      if constexpr (kType == WeightType::kQ8) asm volatile("" ::: "memory");
    }
    NESTLING_UNROLL for (int s = 0; s < kStreams; ++s) {
      const __m512 w_scale = load_half16(w + s * a.w_stream + 32 * (block % 2));
      NESTLING_UNROLL for (int m = 0; m < kTokens; ++m) {
        const __m512 scale = _mm512_mul_ps(w_scale, _mm512_set1_ps(x_scales[m]));
        acc[s][m] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot[s][m]), scale, acc[s][m]);
      }
    }
    x += 8 * kTokens;
    corrections += kTokens;
    x_scales += kTokens;
    w += (block % 2) * il16_superblock_bytes(kType);
  }
  NESTLING_UNROLL for (int s = 0; s < kStreams; ++s)
    NESTLING_UNROLL for (int m = 0; m < kTokens; ++m)
      _mm512_storeu_ps(a.y + m * a.y_stride + s * a.y_stream, acc[s][m]);
}

template <WeightType kType>
NESTLING_AVX512_INLINE __m512 load_weights(const std::byte* w) {
  if constexpr (kType == WeightType::kF32)
    return _mm512_loadu_ps(w);
  else
    return _mm512_castsi512_ps(
        _mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(w))), 16));
}

template <WeightType kType, int kTokens, int kStreams>
NESTLING_AVX512 void float_tile(const Il16Args& a) {
  __m512 acc[kStreams][kTokens];
  NESTLING_UNROLL for (int s = 0; s < kStreams; ++s)
    NESTLING_UNROLL for (int m = 0; m < kTokens; ++m)
      acc[s][m] = a.accumulate ? _mm512_loadu_ps(a.y + m * a.y_stride + s * a.y_stream) : _mm512_setzero_ps();
  const std::byte* w = a.w;
  for (int64_t k = 0; k < a.cols; ++k, w += kLanes * float_bytes(kType)) {
    __m512 weights[kStreams];
    NESTLING_UNROLL for (int s = 0; s < kStreams; ++s) weights[s] = load_weights<kType>(w + s * a.w_stream);
    NESTLING_UNROLL for (int m = 0; m < kTokens; ++m) {
      const __m512 x = _mm512_set1_ps(a.x[m * a.x_stride + k]);
      NESTLING_UNROLL for (int s = 0; s < kStreams; ++s) acc[s][m] = _mm512_fmadd_ps(weights[s], x, acc[s][m]);
    }
  }
  NESTLING_UNROLL for (int s = 0; s < kStreams; ++s)
    NESTLING_UNROLL for (int m = 0; m < kTokens; ++m)
      _mm512_storeu_ps(a.y + m * a.y_stride + s * a.y_stream, acc[s][m]);
}

template <WeightType kType, int kTokens, int kStreams>
NESTLING_AVX512 void tile(const Il16Args& a) {
  if constexpr (is_quantized(kType))
    quantized_tile<kType, kTokens, kStreams>(a);
  else
    float_tile<kType, kTokens, kStreams>(a);
}

// Row groups whose sums fit the 32 registers: quantised types hold two sums (int32 and float) for each output.
template <WeightType kType, int kTokens>
constexpr int streams_together() {
  if (kTokens <= (is_quantized(kType) ? 3 : 6)) return 4;
  return 2;
}

template <WeightType kType, int kTokens>
void streams(const Il16Args& a) {
  constexpr int kTogether = streams_together<kType, kTokens>();
  Il16Args part = a;
  int left = a.streams;
  for (; left >= kTogether; left -= kTogether) {
    tile<kType, kTokens, kTogether>(part);
    part.w += kTogether * a.w_stream;
    part.y += kTogether * a.y_stream;
  }
  for (; left > 0; --left) {
    tile<kType, kTokens, 1>(part);
    part.w += a.w_stream;
    part.y += a.y_stream;
  }
}

template <WeightType kType>
void run(const Il16Args& a) {
  switch (a.tokens) {
    case 1: return streams<kType, 1>(a);
    case 2: return streams<kType, 2>(a);
    case 3: return streams<kType, 3>(a);
    case 4: return streams<kType, 4>(a);
    case 5: return streams<kType, 5>(a);
    case 6: return streams<kType, 6>(a);
  }
}

}  // namespace

void avx512_il16_f32(const Il16Args& a) { run<WeightType::kF32>(a); }
void avx512_il16_bf16(const Il16Args& a) { run<WeightType::kBF16>(a); }
void avx512_il16_q8(const Il16Args& a) { run<WeightType::kQ8>(a); }
void avx512_il16_q6(const Il16Args& a) { run<WeightType::kQ6>(a); }
void avx512_il16_q4(const Il16Args& a) { run<WeightType::kQ4>(a); }

}  // namespace nestling
