#include "kernels/x86/avx512_common.h"
#include "kernels/x86/avx512_kernels.h"

namespace nestling {
namespace {

using namespace avx512;

// The one order of adding 16 lanes: l + (l + 8), then + 4, + 2, + 1.
NESTLING_AVX512_INLINE float sum_lanes(__m512 acc) {
  const __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(acc), _mm512_extractf32x8_ps(acc, 1));
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

// Cell `c` of `kRows` rows; kWhole: with all 16 lanes.
template <WeightType kType, int kRows, bool kWhole>
NESTLING_AVX512_INLINE void add_cell(const LaneDotArgs& a, int64_t c, int64_t scale_bytes, __m512* acc) {
  const int64_t lanes = kWhole ? kLanes : lane_cell_lanes(a.cols, c);
  const auto mask = static_cast<__mmask16>((1u << lanes) - 1);
  const int32_t* codes = a.x.codes + c * 8 * kLanes;
  const __m512i start = scale_correction<kType>(_mm512_loadu_si512(a.x.corrections + c * kLanes));
  __m512i dots[kRows];
  NESTLING_UNROLL for (int r = 0; r < kRows; ++r) dots[r] = start;
  NESTLING_UNROLL for (int j = 0; j < 4; ++j) {
    const __m512i x0 = _mm512_loadu_si512(codes + (2 * j) * kLanes);
    const __m512i x1 = _mm512_loadu_si512(codes + (2 * j + 1) * kLanes);
    NESTLING_UNROLL for (int r = 0; r < kRows; ++r) {
      const std::byte* cell = a.rows[r] + scale_bytes + c * cell_bytes(kType);
      const CodePair w = load_codes<kType, kWhole>(cell, j, 4 * lanes, mask);
      dots[r] = dot_bytes(dot_bytes(dots[r], w.first, x0), w.second, x1);
    }
  }
  const __m512 x_scale = _mm512_loadu_ps(a.x.scales + c * kLanes);
  NESTLING_UNROLL for (int r = 0; r < kRows; ++r) {
    const __m512 scale = _mm512_mul_ps(load_half16(a.rows[r] + 2 * c * kLanes), x_scale);
    acc[r] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dots[r]), scale, acc[r]);
  }
}

template <WeightType kType, int kRows>
NESTLING_AVX512 void rows(const LaneDotArgs& a) {
  const int64_t whole = block_count(a.cols) / kLanes;
  const int64_t scale_bytes = lane_scale_bytes(a.cols);
  __m512 acc[kRows];
  NESTLING_UNROLL for (int r = 0; r < kRows; ++r) acc[r] = _mm512_setzero_ps();
  for (int64_t c = 0; c < whole; ++c) add_cell<kType, kRows, true>(a, c, scale_bytes, acc);
  if (whole < lane_cells(a.cols)) add_cell<kType, kRows, false>(a, whole, scale_bytes, acc);
  NESTLING_UNROLL for (int r = 0; r < kRows; ++r) a.out[r] = sum_lanes(acc[r]);
}

template <WeightType kType>
void run(const LaneDotArgs& a) {
  switch (a.count) {
    case 1: return rows<kType, 1>(a);
    case 2: return rows<kType, 2>(a);
    case 3: return rows<kType, 3>(a);
    case 4: return rows<kType, 4>(a);
  }
}

}  // namespace

void avx512_lane_dot_q8(const LaneDotArgs& a) { run<WeightType::kQ8>(a); }
void avx512_lane_dot_q6(const LaneDotArgs& a) { run<WeightType::kQ6>(a); }
void avx512_lane_dot_q4(const LaneDotArgs& a) { run<WeightType::kQ4>(a); }

}  // namespace nestling
