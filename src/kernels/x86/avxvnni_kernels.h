// The AVX-VNNI kernels: those of AVX2 with one instruction for four products and their sum. It is a parameter, so that
// a test can compute it in AVX2 and run the same kernels where the processor lacks it (avxvnni_emulated_test.cc):
//   Vnni::dot_bytes(acc, w, x): acc + w (unsigned bytes) . x (signed bytes), four products per int32.
// Vnni lies in an unnamed namespace, so that no two files share a function.
#pragma once

#include "kernels/attention_portable.h"
#include "kernels/x86/avx2_dense.h"
#include "kernels/x86/avx2_il16.h"
#include "kernels/x86/avx2_kernels.h"
#include "kernels/x86/avx2_lane_dot.h"

namespace nestling::avxvnni {

using namespace avx2;

NESTLING_AVX2_INLINE __m256i make_unsigned(__m256i codes) {  // signed code + 128
  return _mm256_xor_si256(codes, _mm256_set1_epi8(static_cast<char>(0x80)));
}

template <WeightType kType>
NESTLING_AVX2_INLINE CodePair load_unsigned_codes(const std::byte* cell, int j, int half) {
  const CodePair codes = load_codes<kType>(cell, j, half);
  if constexpr (kType != WeightType::kQ8) return codes;
  return {make_unsigned(codes.first), make_unsigned(codes.second)};
}

// -8 * sum of the codes of x, scaled to the offset of the unsigned weights (8, 32 or 128).
template <WeightType kType>
NESTLING_AVX2_INLINE __m256i scale_correction(__m256i correction) {
  if constexpr (kType == WeightType::kQ4) return correction;
  return _mm256_slli_epi32(correction, kType == WeightType::kQ6 ? 2 : 4);
}

// Six tokens: 12 sums, 2 codes, one broadcast and one mask are the 16 registers; q6 reads its second mask again.
inline constexpr int kTileTokens = 6;

template <class Vnni>
struct BlockDot {
  static constexpr int kCorrectionWords = correction_words(Corrections::kSums);
  template <WeightType kType, int kTokens>
  NESTLING_AVX2_INLINE static void run(const std::byte* cell, const int32_t* x, const int32_t* corrections,
                                       BlockSums<kTokens>& sums) {
    NESTLING_UNROLL for (int m = 0; m < kTokens; ++m)
      sums.of[m][0] = sums.of[m][1] = scale_correction<kType>(_mm256_set1_epi32(corrections[m]));
    NESTLING_UNROLL for (int j = 0; j < 4; ++j) {
      add<kTokens>(load_unsigned_codes<kType>(cell, j, 0).first, load_unsigned_codes<kType>(cell, j, 1).first,
                   x + (2 * j) * kTokens, sums);
      add<kTokens>(load_unsigned_codes<kType>(cell, j, 0).second, load_unsigned_codes<kType>(cell, j, 1).second,
                   x + (2 * j + 1) * kTokens, sums);
    }
  }

 private:
  template <int kTokens>
  NESTLING_AVX2_INLINE static void add(__m256i top, __m256i bottom, const int32_t* x, BlockSums<kTokens>& sums) {
    NESTLING_UNROLL for (int m = 0; m < kTokens; ++m) {
      const __m256i xx = _mm256_set1_epi32(x[m]);
      sums.of[m][0] = Vnni::dot_bytes(sums.of[m][0], top, xx);
      sums.of[m][1] = Vnni::dot_bytes(sums.of[m][1], bottom, xx);
    }
    // Loads stay in their step: compilers would take two steps together and spill the sums.
    asm volatile("" ::: "memory");
  }
};

template <class Vnni>
struct HalfCellDot {
  template <WeightType kType, int kRows>
  NESTLING_AVX2_INLINE static void run(const std::byte* const (&cell)[kRows], const int32_t* codes,
                                       const int32_t* corrections, int64_t /*words*/, int half,
                                       __m256i (&dots)[kRows]) {
    const __m256i start = scale_correction<kType>(load(corrections));
    NESTLING_UNROLL for (int r = 0; r < kRows; ++r) dots[r] = start;
    NESTLING_UNROLL for (int j = 0; j < 4; ++j) {
      const __m256i x0 = load(codes + (2 * j) * kLanes + 8 * half);
      const __m256i x1 = load(codes + (2 * j + 1) * kLanes + 8 * half);
      NESTLING_UNROLL for (int r = 0; r < kRows; ++r) {
        const CodePair w = load_unsigned_codes<kType>(cell[r], j, half);
        dots[r] = Vnni::dot_bytes(Vnni::dot_bytes(dots[r], w.first, x0), w.second, x1);
      }
    }
  }
};

// Weights are made unsigned on the way, which starting the sums at -128 * (sum of the row's codes) takes back.
template <class Vnni, int kRows>
void dense_tile(const DenseArgs& a) {
  __m256i dot[kRows][2];
  // What a row's zero adds, and what the offset of the unsigned weights takes away.
  NESTLING_UNROLL for (int m = 0; m < kRows; ++m) {
    const __m256i row_zero = _mm256_set1_epi32(a.x.zeros[m]), offset = _mm256_set1_epi32(-128 * a.x.sums[m]);
    NESTLING_UNROLL for (int half = 0; half < 2; ++half)
      dot[m][half] = _mm256_add_epi32(offset, _mm256_mullo_epi32(load(a.sums + 8 * half), row_zero));
  }
  const std::byte* w = a.w;
  const int32_t* x = a.x.codes;
  for (int64_t word = 0; word < a.words; ++word, w += kLineBytes, x += kRows) {
    const __m256i w0 = make_unsigned(load(w)), w1 = make_unsigned(load(w + 32));
    NESTLING_UNROLL for (int m = 0; m < kRows; ++m) {
      const __m256i xx = _mm256_set1_epi32(x[m]);
      dot[m][0] = Vnni::dot_bytes(dot[m][0], w0, xx);
      dot[m][1] = Vnni::dot_bytes(dot[m][1], w1, xx);
    }
  }
  store_dense(a, dot);
}

template <class Vnni>
void dense(const DenseArgs& a) {
  switch (a.rows) {
    case 1: return dense_tile<Vnni, 1>(a);
    case 2: return dense_tile<Vnni, 2>(a);
    case 3: return dense_tile<Vnni, 3>(a);
    case 4: return dense_tile<Vnni, 4>(a);
    case 5: return dense_tile<Vnni, 5>(a);
    case 6: return dense_tile<Vnni, 6>(a);
  }
}

// No such processor was at hand: correctness is tested by emulation, tile and stream counts are those of AVX2.
// sparse_down keeps AVX2's pairs of neurons: most blocks hold one to four, and fours would need more unpacking.
template <class Vnni>
constexpr KernelTable table(std::string_view name, bool (*supported)(), int64_t (*int8_products)(int64_t)) {
  using enum WeightType;
  return {
      .name = name,
      .supported = supported,
      .tile_rows = kTileTokens,
      .corrections = Corrections::kSums,
      .quantize = avx2_quantize_sums,
      .il16 = {{.run = avx2_il16_f32, .far_tokens = 1, .far_streams = 4, .near_streams = 4, .chunk_cols = 512},
               {.run = avx2_il16_bf16, .far_tokens = 1, .far_streams = 4, .near_streams = 4, .chunk_cols = 512},
               {.run = quantized_il16<BlockDot<Vnni>, kQ8>, .far_tokens = 3, .far_streams = 4},
               {.run = quantized_il16<BlockDot<Vnni>, kQ6>, .far_tokens = 3, .far_streams = 4},
               {.run = quantized_il16<BlockDot<Vnni>, kQ4>, .far_tokens = 3, .far_streams = 4}},
      .lane_dot = {avx2_lane_dot_f32, avx2_lane_dot_bf16, quantized_lane_dot<HalfCellDot<Vnni>, kQ8>,
                   quantized_lane_dot<HalfCellDot<Vnni>, kQ6>, quantized_lane_dot<HalfCellDot<Vnni>, kQ4>},
      .sparse_down = {avx2_sparse_down_f32, avx2_sparse_down_bf16, avx2_sparse_down_q8, avx2_sparse_down_q6,
                      avx2_sparse_down_q4},
      .dense = {.run = dense<Vnni>, .rows = 6, .groups = 1, .sums = avx2_dense_sums, .code = avx2_dense_code},
      .dense16 = {.run = avx2_dense16, .rows = 6, .groups = 1},
      .attention = &kPortableAttention,
      .int8_products = int8_products,
      .float_products = avx2_float_products,
  };
}

}  // namespace nestling::avxvnni
