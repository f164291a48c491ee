#include <cstring>

#include "kernels/arm/neon_common.h"
#include "kernels/arm/neon_kernels.h"

namespace nestling {

void neon_quantize(const float* x, int64_t cols, int8_t* codes, int32_t* corrections, float* scales) {
  constexpr float kSmallestPeak = 1e-30f;
  for (int64_t block = 0; block < block_count(cols); ++block, codes += kQuantBlock) {
    const float* in = x + block * kQuantBlock;
    float padded[kQuantBlock] = {};
    if (const int64_t left = cols - block * kQuantBlock; left < kQuantBlock) {
      std::memcpy(padded, in, left * sizeof(float));
      in = padded;
    }
    float32x4_t v[8], largest = vdupq_n_f32(0);
    NESTLING_UNROLL for (int i = 0; i < 8; ++i) {
      v[i] = vld1q_f32(in + 4 * i);
      largest = vmaxq_f32(largest, vabsq_f32(v[i]));
    }
    const float peak = vmaxvq_f32(largest);
    const bool zero = peak < kSmallestPeak;
    const float inverse = zero ? 0.0f : 127.0f / peak;
    int16x8_t q[4];
    NESTLING_UNROLL for (int i = 0; i < 4; ++i)
      q[i] = vcombine_s16(vqmovn_s32(vcvtnq_s32_f32(vmulq_n_f32(v[2 * i], inverse))),
                          vqmovn_s32(vcvtnq_s32_f32(vmulq_n_f32(v[2 * i + 1], inverse))));
    vst1q_s8(codes, vcombine_s8(vqmovn_s16(q[0]), vqmovn_s16(q[1])));
    vst1q_s8(codes + 16, vcombine_s8(vqmovn_s16(q[2]), vqmovn_s16(q[3])));
    corrections[block] = -8 * vaddvq_s16(vaddq_s16(vaddq_s16(q[0], q[1]), vaddq_s16(q[2], q[3])));
    scales[block] = zero ? 0.0f : peak / 127.0f;
  }
}

}  // namespace nestling
