// What the AVX2 and the AVX-VNNI dots of quantised rows in kLaneRows have in common: everything but the dot products of
// half a cell (8 lanes). `Dot` forms those,
//   Dot::run<type, rows>(cell, codes, corrections, words, half, dots),
// and lies in an unnamed namespace, so that no two files share a function. Word w of lane l is
// corrections[w * words + l].
#pragma once

#include <cstring>

#include "kernels/kernel_table.h"
#include "kernels/x86/avx2_common.h"

namespace nestling::avx2 {

// The one order of adding 16 lanes: l + (l + 8), then + 4, + 2, + 1.
inline float sum_lanes(__m256 low, __m256 high) {
  const __m256 eight = _mm256_add_ps(low, high);
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

// Lines of the last cell of a row may be shorter than 16 lanes: widened, with zeros behind.
inline void widen_cell(WeightType type, const std::byte* cell, int64_t lanes, std::byte* out) {
  std::memset(out, 0, cell_bytes(type));
  for (int64_t line = 0; line < code_bytes(type) / 4; ++line)
    std::memcpy(out + line * kLineBytes, cell + line * 4 * lanes, 4 * lanes);
}

template <class Dot, WeightType kType, int kRows>
void quantized_rows(const LaneDotArgs& a) {
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
    NESTLING_UNROLL for (int half = 0; half < 2; ++half) {
      const int64_t lane = c * kLanes + 8 * half;
      __m256i dots[kRows];
      Dot::template run<kType, kRows>(cell, a.x.codes + c * 8 * kLanes, a.x.corrections + lane, cells * kLanes, half,
                                      dots);
      const __m256 x_scale = _mm256_loadu_ps(a.x.scales + lane);
      NESTLING_UNROLL for (int r = 0; r < kRows; ++r) {
        const __m256 scale = _mm256_mul_ps(load_half8(a.rows[r] + 2 * lane), x_scale);
        acc[r][half] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dots[r]), scale, acc[r][half]);
      }
    }
  }
  NESTLING_UNROLL for (int r = 0; r < kRows; ++r) a.out[r] = sum_lanes(acc[r][0], acc[r][1]);
}

template <class Dot, WeightType kType>
void quantized_lane_dot(const LaneDotArgs& a) {
  switch (a.count) {
    case 1: return quantized_rows<Dot, kType, 1>(a);
    case 2: return quantized_rows<Dot, kType, 2>(a);
    case 3: return quantized_rows<Dot, kType, 3>(a);
    case 4: return quantized_rows<Dot, kType, 4>(a);
  }
}

}  // namespace nestling::avx2
