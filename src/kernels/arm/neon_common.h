// Loads and small steps that the NEON kernels share.
#pragma once

#include <arm_neon.h>

#include <cstddef>
#include <cstdint>

#include "kernels/unroll.h"
#include "tensor/layout.h"

#define NESTLING_NEON_INLINE __attribute__((always_inline)) inline
#define NESTLING_DOTPROD __attribute__((target("+dotprod")))
#define NESTLING_DOTPROD_INLINE __attribute__((target("+dotprod"), always_inline)) inline
#define NESTLING_I8MM __attribute__((target("+dotprod+i8mm")))

namespace nestling::neon {

NESTLING_NEON_INLINE uint8x16_t load_u8(const std::byte* p) { return vld1q_u8(reinterpret_cast<const uint8_t*>(p)); }
NESTLING_NEON_INLINE int8x16_t load_s8(const std::byte* p) { return vld1q_s8(reinterpret_cast<const int8_t*>(p)); }

// Four f16 as float.
NESTLING_NEON_INLINE float32x4_t load_half4(const std::byte* p) {
  return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(reinterpret_cast<const uint16_t*>(p))));
}

template <WeightType kType>
NESTLING_NEON_INLINE float32x4_t load_weights4(const std::byte* p) {
  if constexpr (kType == WeightType::kF32)
    return vld1q_f32(reinterpret_cast<const float*>(p));
  else
    return vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(reinterpret_cast<const uint16_t*>(p)), 16));
}

struct CodePair {
  int8x16_t first, second;  // inputs 8j .. 8j+3 and 8j+4 .. 8j+7 of 4 lanes; q4 and q6 as unsigned code (at most 63)
};

// Step j (0 to 3) of a cell, lanes 4 * quarter to 4 * quarter + 3.
template <WeightType kType>
NESTLING_NEON_INLINE CodePair load_codes(const std::byte* cell, int j, int quarter, int64_t line_bytes = kLineBytes) {
  cell += 16 * quarter;
  if constexpr (kType == WeightType::kQ8) {
    return {load_s8(cell + 2 * j * line_bytes), load_s8(cell + (2 * j + 1) * line_bytes)};
  } else {
    const uint8x16_t nibbles = load_u8(cell + (kType == WeightType::kQ4 ? j : 3 * (j / 2) + j % 2) * line_bytes);
    uint8x16_t first = vandq_u8(nibbles, vdupq_n_u8(15)), second = vshrq_n_u8(nibbles, 4);
    if constexpr (kType == WeightType::kQ6) {
      const uint8x16_t bits45 = vdupq_n_u8(0x30), high = load_u8(cell + (3 * (j / 2) + 2) * line_bytes);
      first = vorrq_u8(first, vandq_u8(j % 2 == 0 ? vshlq_n_u8(high, 4) : high, bits45));
      second = vorrq_u8(second, vandq_u8(j % 2 == 0 ? vshlq_n_u8(high, 2) : vshrq_n_u8(high, 2), bits45));
    }
    return {vreinterpretq_s8_u8(first), vreinterpretq_s8_u8(second)};
  }
}

// From -8 * sum of the codes of x to -offset * sum.
template <WeightType kType>
NESTLING_NEON_INLINE int32x4_t scale_correction(int32x4_t correction) {
  if constexpr (kType == WeightType::kQ8) return vdupq_n_s32(0);
  if constexpr (kType == WeightType::kQ6) return vshlq_n_s32(correction, 2);
  return correction;
}

// The one order of adding 16 lanes: l + (l + 8), then + 4, + 2, + 1.
NESTLING_NEON_INLINE float sum_lanes(const float32x4_t acc[4]) {
  const float32x4_t four = vaddq_f32(vaddq_f32(acc[0], acc[2]), vaddq_f32(acc[1], acc[3]));
  const float32x2_t two = vadd_f32(vget_low_f32(four), vget_high_f32(four));
  return vget_lane_f32(two, 0) + vget_lane_f32(two, 1);
}

}  // namespace nestling::neon
