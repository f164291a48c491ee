#include <cstring>
#include <utility>

#include "kernels/arm/neon_il16.h"
#include "kernels/arm/neon_kernels.h"

namespace nestling {
namespace {

using namespace neon;

// sdot takes the 4 codes of a token from a lane of a register: 4 words of x per load, whatever the number of tokens.
template <int kWord>
NESTLING_DOTPROD_INLINE void add_word(int32x4_t& acc, int8x16_t w, const int32_t* x) {
  acc = vdotq_laneq_s32(acc, w, vreinterpretq_s8_s32(vld1q_s32(x + kWord / 4 * 4)), kWord % 4);
}

template <int kTokens, int kGroup, int... kToken>
NESTLING_DOTPROD_INLINE void add_group(int32x4_t (&acc)[kTokens][4], int quarter, int8x16_t w, const int32_t* x,
                                       std::integer_sequence<int, kToken...>) {
  (add_word<kGroup * kTokens + kToken>(acc[kToken][quarter], w, x), ...);
}

// Step j of a cell: inputs 8j to 8j + 7, which are groups 2j and 2j + 1 of 4 inputs.
template <WeightType kType, int kTokens, int kStep>
NESTLING_DOTPROD_INLINE void add_step(int32x4_t (&acc)[kTokens][4], const std::byte* cell, const int32_t* x) {
  constexpr auto kEach = std::make_integer_sequence<int, kTokens>();
  NESTLING_UNROLL for (int quarter = 0; quarter < 4; ++quarter) {
    const CodePair w = load_codes<kType>(cell, kStep, quarter);
    add_group<kTokens, 2 * kStep>(acc, quarter, w.first, x, kEach);
    add_group<kTokens, 2 * kStep + 1>(acc, quarter, w.second, x, kEach);
  }
}

template <WeightType kType, int kTokens>
NESTLING_DOTPROD_INLINE void dot_block(const std::byte* cell, const int32_t* x, const int32_t* corrections,
                                       BlockSums<kTokens>& sums) {
  int32x4_t acc[kTokens][4];
  NESTLING_UNROLL for (int m = 0; m < kTokens; ++m) {
    const int32x4_t start = scale_correction<kType>(vdupq_n_s32(corrections[m]));
    NESTLING_UNROLL for (int quarter = 0; quarter < 4; ++quarter) acc[m][quarter] = start;
  }
  add_step<kType, kTokens, 0>(acc, cell, x);
  add_step<kType, kTokens, 1>(acc, cell, x);
  add_step<kType, kTokens, 2>(acc, cell, x);
  add_step<kType, kTokens, 3>(acc, cell, x);
  NESTLING_UNROLL for (int m = 0; m < kTokens; ++m)
    NESTLING_UNROLL for (int quarter = 0; quarter < 4; ++quarter) sums.of[m][quarter] = acc[m][quarter];
}

template <WeightType kType, int kTokens, int kStreams>
NESTLING_DOTPROD void quantized_tile(const Il16Args& a) {
  FloatSums<kTokens, kStreams> acc(a);
  TileCursor x(a.tile);
  for (int64_t block = 0; block < a.cols / kQuantBlock; ++block, x.advance(kTokens))
    for (int s = 0; s < kStreams; ++s) {
      const BlockPlace place(kType, a.w + s * a.w_stream, block);
      BlockSums<kTokens> sums;
      dot_block<kType, kTokens>(place.cell, x.codes, x.corrections, sums);
      acc.add(s, sums, place.scales, x.scales);
    }
  acc.store(a);
}

template <WeightType kType, int kStreams>
void quantized_streams(const Il16Args& a) {
  switch (a.tokens) {
    case 1: return quantized_tile<kType, 1, kStreams>(a);
    case 2: return quantized_tile<kType, 2, kStreams>(a);
    case 3: return quantized_tile<kType, 3, kStreams>(a);
    case 4: return quantized_tile<kType, 4, kStreams>(a);
  }
}

template <WeightType kType>
void quantized(const Il16Args& a) {
  if (a.streams == 4) return quantized_streams<kType, 4>(a);
  for_each_stream(a, quantized_streams<kType, 1>);
}

// ---- float weights

// Inputs k .. k + kInputs - 1.
template <WeightType kType, int kTokens, int kInputs>
NESTLING_NEON_INLINE void add_inputs(const Il16Args& a, int64_t k, float32x4_t (&acc)[kTokens][4]) {
  float x[kTokens][kInputs];
  NESTLING_UNROLL for (int m = 0; m < kTokens; ++m) std::memcpy(x[m], a.x + m * a.x_stride + k, sizeof(x[m]));
  NESTLING_UNROLL for (int i = 0; i < kInputs; ++i)
    NESTLING_UNROLL for (int quarter = 0; quarter < 4; ++quarter) {
      const float32x4_t w = load_weights4<kType>(a.w + ((k + i) * kLanes + 4 * quarter) * float_bytes(kType));
      NESTLING_UNROLL for (int m = 0; m < kTokens; ++m) acc[m][quarter] = vfmaq_n_f32(acc[m][quarter], w, x[m][i]);
    }
}

template <WeightType kType, int kTokens>
void float_tile(const Il16Args& a) {
  float32x4_t acc[kTokens][4];
  NESTLING_UNROLL for (int m = 0; m < kTokens; ++m)
    NESTLING_UNROLL for (int quarter = 0; quarter < 4; ++quarter)
      acc[m][quarter] = a.accumulate ? vld1q_f32(a.y + m * a.y_stride + 4 * quarter) : vdupq_n_f32(0);
  int64_t k = 0;
  for (; k + 4 <= a.cols; k += 4) add_inputs<kType, kTokens, 4>(a, k, acc);
  for (; k < a.cols; ++k) add_inputs<kType, kTokens, 1>(a, k, acc);
  NESTLING_UNROLL for (int m = 0; m < kTokens; ++m)
    NESTLING_UNROLL for (int quarter = 0; quarter < 4; ++quarter)
      vst1q_f32(a.y + m * a.y_stride + 4 * quarter, acc[m][quarter]);
}

template <WeightType kType>
void float_stream(const Il16Args& a) {
  switch (a.tokens) {
    case 1: return float_tile<kType, 1>(a);
    case 2: return float_tile<kType, 2>(a);
    case 3: return float_tile<kType, 3>(a);
    case 4: return float_tile<kType, 4>(a);
  }
}

}  // namespace

void neon_il16_f32(const Il16Args& a) { for_each_stream(a, float_stream<WeightType::kF32>); }
void neon_il16_bf16(const Il16Args& a) { for_each_stream(a, float_stream<WeightType::kBF16>); }
void neon_il16_q8(const Il16Args& a) { quantized<WeightType::kQ8>(a); }
void neon_il16_q6(const Il16Args& a) { quantized<WeightType::kQ6>(a); }
void neon_il16_q4(const Il16Args& a) { quantized<WeightType::kQ4>(a); }

}  // namespace nestling
