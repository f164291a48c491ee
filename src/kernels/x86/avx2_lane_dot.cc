#include <algorithm>
#include <cstring>

#include "kernels/x86/avx2_common.h"
#include "kernels/x86/avx2_kernels.h"

namespace nestling {
namespace {

using namespace avx2;

// The one order of adding 16 lanes: l + (l + 8), then + 4, + 2, + 1.
float sum_lanes(__m256 low, __m256 high) {
  const __m256 eight = _mm256_add_ps(low, high);
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

// Lines of the last cell of a row may be shorter than 16 lanes: widened, with zeros behind.
void widen_cell(WeightType type, const std::byte* cell, int64_t lanes, std::byte* out) {
  std::memset(out, 0, cell_bytes(type));
  for (int64_t line = 0; line < code_bytes(type) / 4; ++line)
    std::memcpy(out + line * kLineBytes, cell + line * 4 * lanes, 4 * lanes);
}

template <WeightType kType, int kRows>
void quantized_rows(const LaneDotArgs& a) {
  const __m256i ones = _mm256_set1_epi16(1);
  const int64_t cells = lane_cells(a.cols);
  const int64_t scale_bytes = lane_scale_bytes(a.cols);
  __m256 acc[kRows][2];
  NESTLING_UNROLL for (int r = 0; r < kRows; ++r) acc[r][0] = acc[r][1] = _mm256_setzero_ps();
  for (int64_t c = 0; c < cells; ++c) {
    const std::byte* cell[kRows];
    alignas(64) std::byte widened[kRows][kLanes * kQuantBlock];
    for (int r = 0; r < kRows; ++r) {
      cell[r] = a.rows[r] + scale_bytes + c * cell_bytes(kType);
      if (const int64_t lanes = lane_cell_lanes(a.cols, c); lanes < kLanes) [[unlikely]] {
        widen_cell(kType, cell[r], lanes, widened[r]);
        cell[r] = widened[r];
      }
    }
    const int32_t* codes = a.x.codes + c * 8 * kLanes;
    NESTLING_UNROLL for (int half = 0; half < 2; ++half) {
      const int64_t lane = c * kLanes + 8 * half;
      __m256i dots[kRows];
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
          const int word = kParts == 1 ? 0 : 1 + part;
          const __m256i start = load(a.x.corrections + word * cells * kLanes + lane);
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
      const __m256 x_scale = _mm256_loadu_ps(a.x.scales + lane);
      NESTLING_UNROLL for (int r = 0; r < kRows; ++r) {
        const __m256 scale = _mm256_mul_ps(load_half8(a.rows[r] + 2 * lane), x_scale);
        acc[r][half] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dots[r]), scale, acc[r][half]);
      }
    }
  }
  NESTLING_UNROLL for (int r = 0; r < kRows; ++r) a.out[r] = sum_lanes(acc[r][0], acc[r][1]);
}

template <WeightType kType>
void quantized(const LaneDotArgs& a) {
  switch (a.count) {
    case 1: return quantized_rows<kType, 1>(a);
    case 2: return quantized_rows<kType, 2>(a);
    case 3: return quantized_rows<kType, 3>(a);
    case 4: return quantized_rows<kType, 4>(a);
  }
}

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
void avx2_lane_dot_q8(const LaneDotArgs& a) { quantized<WeightType::kQ8>(a); }
void avx2_lane_dot_q6(const LaneDotArgs& a) { quantized<WeightType::kQ6>(a); }
void avx2_lane_dot_q4(const LaneDotArgs& a) { quantized<WeightType::kQ4>(a); }

}  // namespace nestling
