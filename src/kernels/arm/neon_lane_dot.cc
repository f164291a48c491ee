#include <cstring>

#include "kernels/arm/neon_common.h"
#include "kernels/arm/neon_kernels.h"

namespace nestling {
namespace {

using namespace neon;

template <WeightType kType>
NESTLING_DOTPROD void quantized(const LaneDotArgs& a) {
  const int64_t cells = lane_cells(a.cols);
  for (int r = 0; r < a.count; ++r) {
    const std::byte* cell = a.rows[r] + lane_scale_bytes(a.cols);
    float32x4_t acc[4] = {vdupq_n_f32(0), vdupq_n_f32(0), vdupq_n_f32(0), vdupq_n_f32(0)};
    for (int64_t c = 0; c < cells; ++c, cell += cell_bytes(kType)) {
      const int64_t lanes = lane_cell_lanes(a.cols, c);
      const int32_t* x = a.x.codes + c * 8 * kLanes;
      // Lanes come in fours: those a short last cell lacks have a scale of zero and need no look.
      NESTLING_UNROLL for (int quarter = 0; quarter < 4; ++quarter) {
        if (4 * quarter >= lanes) break;
        const int64_t lane = c * kLanes + 4 * quarter;
        int32x4_t dot = scale_correction<kType>(vld1q_s32(a.x.corrections + lane));
        NESTLING_UNROLL for (int j = 0; j < 4; ++j) {
          const CodePair w = load_codes<kType>(cell, j, quarter, 4 * lanes);
          const int32_t* at = x + 2 * j * kLanes + 4 * quarter;
          dot = vdotq_s32(dot, w.first, vreinterpretq_s8_s32(vld1q_s32(at)));
          dot = vdotq_s32(dot, w.second, vreinterpretq_s8_s32(vld1q_s32(at + kLanes)));
        }
        const float32x4_t scale = vmulq_f32(load_half4(a.rows[r] + 2 * lane), vld1q_f32(a.x.scales + lane));
        acc[quarter] = vfmaq_f32(acc[quarter], vcvtq_f32_s32(dot), scale);
      }
    }
    a.out[r] = sum_lanes(acc);
  }
}

template <WeightType kType>
void floats(const LaneDotArgs& a) {
  for (int r = 0; r < a.count; ++r) {
    float32x4_t acc[4] = {vdupq_n_f32(0), vdupq_n_f32(0), vdupq_n_f32(0), vdupq_n_f32(0)};
    const std::byte* w = a.rows[r];
    for (int64_t k = 0; k < a.cols; k += kLanes, w += kLanes * float_bytes(kType)) {
      const float* x = a.x.x + k;
      float padded[kLanes] = {};  // the row itself is padded with zeros, x is not
      if (a.cols - k < kLanes) {
        std::memcpy(padded, x, (a.cols - k) * sizeof(float));
        x = padded;
      }
      NESTLING_UNROLL for (int quarter = 0; quarter < 4; ++quarter)
        acc[quarter] = vfmaq_f32(acc[quarter], load_weights4<kType>(w + 4 * quarter * float_bytes(kType)),
                                 vld1q_f32(x + 4 * quarter));
    }
    a.out[r] = sum_lanes(acc);
  }
}

}  // namespace

void neon_lane_dot_f32(const LaneDotArgs& a) { floats<WeightType::kF32>(a); }
void neon_lane_dot_bf16(const LaneDotArgs& a) { floats<WeightType::kBF16>(a); }
void neon_lane_dot_q8(const LaneDotArgs& a) { quantized<WeightType::kQ8>(a); }
void neon_lane_dot_q6(const LaneDotArgs& a) { quantized<WeightType::kQ6>(a); }
void neon_lane_dot_q4(const LaneDotArgs& a) { quantized<WeightType::kQ4>(a); }

}  // namespace nestling
