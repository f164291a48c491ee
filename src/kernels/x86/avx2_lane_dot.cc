#include <cstring>

#include "kernels/x86/avx2_kernels.h"
#include "kernels/x86/avx2_lane_dot.h"

namespace nestling {
namespace {

using namespace avx2;

struct HalfCellDot {
  template <WeightType kType, int kRows>
  NESTLING_AVX2_INLINE static void run(const std::byte* const (&cell)[kRows], const int32_t* codes,
                                       const int32_t* corrections, int64_t words, int half, __m256i (&dots)[kRows]) {
    const __m256i ones = _mm256_set1_epi16(1);
    if constexpr (kType == WeightType::kQ8) {
      NESTLING_UNROLL for (int r = 0; r < kRows; ++r) dots[r] = _mm256_setzero_si256();
      NESTLING_UNROLL for (int k = 0; k < 8; ++k) {
        const __m256i x = load(codes + k * kLanes + 8 * half);
        NESTLING_UNROLL for (int r = 0; r < kRows; ++r) {
          const __m256i w = load(cell[r] + 64 * k + 32 * half);
          add_signed_dot(dots[r], w, _mm256_abs_epi8(w), x, ones);
        }
      }
    } else {
      // q4 one pmaddwd per block, q6 one per 16 inputs (avx2_il16.cc).
      constexpr int kParts = kType == WeightType::kQ4 ? 1 : 2;
      NESTLING_UNROLL for (int part = 0; part < kParts; ++part) {
        const __m256i start = load(corrections + (kParts == 1 ? 0 : 1 + part) * words);
        __m256i sums[kRows];
        NESTLING_UNROLL for (int r = 0; r < kRows; ++r) sums[r] = start;
        NESTLING_UNROLL for (int j = part * 2; j < (kParts == 1 ? 4 : 2 * part + 2); ++j) {
          const __m256i x0 = load(codes + (2 * j) * kLanes + 8 * half);
          const __m256i x1 = load(codes + (2 * j + 1) * kLanes + 8 * half);
          NESTLING_UNROLL for (int r = 0; r < kRows; ++r) {
            const CodePair w = load_codes<kType>(cell[r], j, half);
            sums[r] = _mm256_add_epi16(sums[r], _mm256_maddubs_epi16(w.first, x0));
            sums[r] = _mm256_add_epi16(sums[r], _mm256_maddubs_epi16(w.second, x1));
          }
        }
        NESTLING_UNROLL for (int r = 0; r < kRows; ++r) {
          const __m256i dot = _mm256_madd_epi16(sums[r], ones);
          dots[r] = part == 0 ? dot : _mm256_add_epi32(dots[r], dot);
        }
      }
    }
  }
};

template <WeightType kType>
__m256 load_weights(const std::byte* w) {
  if constexpr (kType == WeightType::kF32)
    return _mm256_loadu_ps(reinterpret_cast<const float*>(w));
  else
    return load_bf16x8(w);
}

template <WeightType kType>
void floats(const LaneDotArgs& a) {
  for (int r = 0; r < a.count; ++r) {
    __m256 low = _mm256_setzero_ps(), high = _mm256_setzero_ps();
    const std::byte* w = a.rows[r];
    for (int64_t k = 0; k < a.cols; k += kLanes, w += kLanes * float_bytes(kType)) {
      const float* x = a.x.x + k;
      float padded[kLanes] = {};  // the row itself is padded with zeros, x is not
      if (a.cols - k < kLanes) [[unlikely]] {
        std::memcpy(padded, x, (a.cols - k) * sizeof(float));
        x = padded;
      }
      low = _mm256_fmadd_ps(load_weights<kType>(w), _mm256_loadu_ps(x), low);
      high = _mm256_fmadd_ps(load_weights<kType>(w + 8 * float_bytes(kType)), _mm256_loadu_ps(x + 8), high);
    }
    a.out[r] = sum_lanes(low, high);
  }
}

}  // namespace

void avx2_lane_dot_f32(const LaneDotArgs& a) { floats<WeightType::kF32>(a); }
void avx2_lane_dot_bf16(const LaneDotArgs& a) { floats<WeightType::kBF16>(a); }
void avx2_lane_dot_q8(const LaneDotArgs& a) { quantized_lane_dot<HalfCellDot, WeightType::kQ8>(a); }
void avx2_lane_dot_q6(const LaneDotArgs& a) { quantized_lane_dot<HalfCellDot, WeightType::kQ6>(a); }
void avx2_lane_dot_q4(const LaneDotArgs& a) { quantized_lane_dot<HalfCellDot, WeightType::kQ4>(a); }

}  // namespace nestling
