#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/arm/neon_common.h"
#include "kernels/arm/neon_kernels.h"
#include "tensor/float_types.h"

namespace nestling {
namespace {

using namespace neon;

// Codes of 64 outputs of one input, in fours of 16; q4 unsigned (code + 8), the others signed.
template <WeightType kType>
NESTLING_NEON_INLINE int8x16_t load_codes16(const std::byte* codes, int i) {
  if constexpr (kType == WeightType::kQ8) {
    return load_s8(codes + 16 * i);
  } else {
    const uint8x16_t nibbles = load_u8(codes + 16 * (i % 2));
    const uint8x16_t low4 = i < 2 ? vandq_u8(nibbles, vdupq_n_u8(15)) : vshrq_n_u8(nibbles, 4);
    if constexpr (kType == WeightType::kQ4) return vreinterpretq_s8_u8(low4);
    const uint8x16_t shifted = vshlq_u8(load_u8(codes + 32), vdupq_n_s8(static_cast<int8_t>(-2 * i)));
    const uint8x16_t code = vorrq_u8(low4, vshlq_n_u8(vandq_u8(shifted, vdupq_n_u8(3)), 4));
    return vsubq_s8(vreinterpretq_s8_u8(code), vdupq_n_s8(32));
  }
}

struct KeptBlock {
  const std::byte* codes[kQuantBlock];  // at the first output asked for
  const int8_t* x;
  int count;
};

// int32 sums of outputs 16i .. 16i + 15.
template <WeightType kType>
NESTLING_NEON_INLINE void dot16(const KeptBlock& block, int64_t offset, int i, int32x4_t sums[4]) {
  if constexpr (kType == WeightType::kQ4) {
    // int16 holds the sum of a whole block: 8 * 127 * 32 = 32,512.
    int correction = 0;
    for (int n = 0; n < block.count; ++n) correction -= 8 * block.x[n];
    int16x8_t low = vdupq_n_s16(static_cast<int16_t>(correction)), high = low;
    for (int n = 0; n < block.count; ++n) {
      const int8x16_t w = load_codes16<kType>(block.codes[n] + offset, i);
      const int8x8_t x = vdup_n_s8(block.x[n]);
      low = vmlal_s8(low, vget_low_s8(w), x);
      high = vmlal_s8(high, vget_high_s8(w), x);
    }
    sums[0] = vmovl_s16(vget_low_s16(low));
    sums[1] = vmovl_s16(vget_high_s16(low));
    sums[2] = vmovl_s16(vget_low_s16(high));
    sums[3] = vmovl_s16(vget_high_s16(high));
  } else {
    for (int q = 0; q < 4; ++q) sums[q] = vdupq_n_s32(0);
    for (int n = 0; n < block.count; ++n) {
      const int8x16_t w = load_codes16<kType>(block.codes[n] + offset, i);
      const int8x8_t x = vdup_n_s8(block.x[n]);
      const int16x8_t low = vmull_s8(vget_low_s8(w), x), high = vmull_s8(vget_high_s8(w), x);
      sums[0] = vaddw_s16(sums[0], vget_low_s16(low));
      sums[1] = vaddw_s16(sums[1], vget_high_s16(low));
      sums[2] = vaddw_s16(sums[2], vget_low_s16(high));
      sums[3] = vaddw_s16(sums[3], vget_high_s16(high));
    }
  }
}

template <WeightType kType>
NESTLING_NEON_INLINE void add_tile(const KeptBlock& block, int64_t offset, const std::byte* scales, float x_scale,
                                   float* y) {
  NESTLING_UNROLL for (int i = 0; i < 4; ++i) {
    int32x4_t sums[4];
    dot16<kType>(block, offset, i, sums);
    NESTLING_UNROLL for (int q = 0; q < 4; ++q) {
      float* at = y + 16 * i + 4 * q;
      const float32x4_t scale = vmulq_n_f32(load_half4(scales + 2 * (16 * i + 4 * q)), x_scale);
      vst1q_f32(at, vfmaq_f32(vld1q_f32(at), vcvtq_f32_s32(sums[q]), scale));
    }
  }
}

template <WeightType kType>
void quantized(const SparseDownArgs& a) {
  constexpr int64_t kTileBytes = 2 * code_bytes(kType);
  const uint64_t row_bytes = input_major_row_bytes(kType, a.rows);
  for (int64_t b = a.first_block; b < a.end_block; ++b) {
    const int32_t first = a.x.starts[b];
    KeptBlock block;
    block.count = a.x.starts[b + 1] - first;
    if (block.count == 0) continue;
    block.x = a.x.codes + first;
    const std::byte* scales = a.w + b * input_major_block_bytes(kType, a.rows);
    const std::byte* codes = scales + 2 * input_major_width(a.rows) + a.begin / kInputMajorWidth * kTileBytes;
    for (int n = 0; n < block.count; ++n)
      block.codes[n] = codes + a.x.neurons[first + n] % kQuantBlock * row_bytes;
    int64_t offset = 0;
    for (int64_t o = a.begin; o < a.end; o += kInputMajorWidth, offset += kTileBytes) {
      if (a.end - o >= kInputMajorWidth) {
        add_tile<kType>(block, offset, scales + 2 * o, a.x.scales[b], a.y + o);
      } else {
        float y[kInputMajorWidth] = {};
        std::memcpy(y, a.y + o, (a.end - o) * sizeof(float));
        add_tile<kType>(block, offset, scales + 2 * o, a.x.scales[b], y);
        std::memcpy(a.y + o, y, (a.end - o) * sizeof(float));
      }
    }
  }
}

template <WeightType kType>
void floats(const SparseDownArgs& a) {
  const uint64_t row_bytes = input_major_row_bytes(kType, a.rows);
  for (int32_t i = a.x.starts[a.first_block]; i < a.x.starts[a.end_block]; ++i) {
    const std::byte* w = a.w + a.x.neurons[i] * row_bytes;
    int64_t o = a.begin;
    for (; o + 4 <= a.end; o += 4)
      vst1q_f32(a.y + o,
                vfmaq_n_f32(vld1q_f32(a.y + o), load_weights4<kType>(w + o * float_bytes(kType)), a.x.values[i]));
    for (; o < a.end; ++o) {
      const float weight = kType == WeightType::kF32 ? reinterpret_cast<const float*>(w)[o]
                                                     : bf16_to_f32(reinterpret_cast<const uint16_t*>(w)[o]);
      a.y[o] = std::fma(weight, a.x.values[i], a.y[o]);
    }
  }
}

}  // namespace

void neon_sparse_down_f32(const SparseDownArgs& a) { floats<WeightType::kF32>(a); }
void neon_sparse_down_bf16(const SparseDownArgs& a) { floats<WeightType::kBF16>(a); }
void neon_sparse_down_q8(const SparseDownArgs& a) { quantized<WeightType::kQ8>(a); }
void neon_sparse_down_q6(const SparseDownArgs& a) { quantized<WeightType::kQ6>(a); }
void neon_sparse_down_q4(const SparseDownArgs& a) { quantized<WeightType::kQ4>(a); }

}  // namespace nestling
