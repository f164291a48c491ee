#include "kernels/arm/neon_kernels.h"

#include <asm/hwcap.h>
#include <sys/auxv.h>

#include "kernels/arm/neon_common.h"
#include "kernels/attention_portable.h"

namespace nestling {
namespace {

bool has_dotprod() { return (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0; }
bool has_i8mm() { return has_dotprod() && (getauxval(AT_HWCAP2) & HWCAP2_I8MM) != 0; }

constexpr int kChains = 16;

NESTLING_DOTPROD int64_t dotprod_products(int64_t rounds) {
  int32x4_t acc[kChains];
  NESTLING_UNROLL for (int c = 0; c < kChains; ++c) acc[c] = vdupq_n_s32(0);
  const int8x16_t w = vdupq_n_s8(3), x = vdupq_n_s8(-5);
  for (int64_t i = 0; i < rounds; ++i)
    NESTLING_UNROLL for (int c = 0; c < kChains; ++c)
        asm volatile("sdot %0.4s, %1.16b, %2.16b" : "+w"(acc[c]) : "w"(w), "w"(x));
  return rounds * kChains * 16;
}

NESTLING_I8MM int64_t i8mm_products(int64_t rounds) {
  int32x4_t acc[kChains];
  NESTLING_UNROLL for (int c = 0; c < kChains; ++c) acc[c] = vdupq_n_s32(0);
  const int8x16_t w = vdupq_n_s8(3), x = vdupq_n_s8(-5);
  for (int64_t i = 0; i < rounds; ++i)
    NESTLING_UNROLL for (int c = 0; c < kChains; ++c)
        asm volatile("smmla %0.4s, %1.16b, %2.16b" : "+w"(acc[c]) : "w"(w), "w"(x));
  return rounds * kChains * 32;
}

int64_t float_products(int64_t rounds) {
  float32x4_t acc[kChains];
  NESTLING_UNROLL for (int c = 0; c < kChains; ++c) acc[c] = vdupq_n_f32(0);
  const float32x4_t w = vdupq_n_f32(3), x = vdupq_n_f32(-5);
  for (int64_t i = 0; i < rounds; ++i)
    NESTLING_UNROLL for (int c = 0; c < kChains; ++c)
        asm volatile("fmla %0.4s, %1.4s, %2.4s" : "+w"(acc[c]) : "w"(w), "w"(x));
  return rounds * kChains * 4;
}

}  // namespace

// No Arm machine was at hand: correctness is tested under emulation, tile and stream counts are those of AVX2.
constinit const KernelTable kNeonKernels = {
    .name = "neon",
    .supported = has_dotprod,
    .tile_rows = 4,
    .corrections = Corrections::kSums,
    .quantize = neon_quantize,
    .il16 = {{.run = neon_il16_f32, .chunk_cols = 512},
             {.run = neon_il16_bf16, .chunk_cols = 512},
             {.run = neon_il16_q8, .far_tokens = 3, .far_streams = 4},
             {.run = neon_il16_q6, .far_tokens = 3, .far_streams = 4},
             {.run = neon_il16_q4, .far_tokens = 3, .far_streams = 4}},
    .lane_dot = {neon_lane_dot_f32, neon_lane_dot_bf16, neon_lane_dot_q8, neon_lane_dot_q6, neon_lane_dot_q4},
    .sparse_down = {neon_sparse_down_f32, neon_sparse_down_bf16, neon_sparse_down_q8, neon_sparse_down_q6,
                    neon_sparse_down_q4},
    .dense = {.run = neon_dense, .rows = 6, .groups = 1, .sums = neon_dense_sums, .code = neon_dense_code},
    .dense16 = {.run = neon_dense16, .rows = 4, .groups = 1},
    .attention = &kPortableAttention,
    .int8_products = dotprod_products,
    .float_products = float_products,
};

constinit const KernelTable kI8mmKernels = {
    .name = "i8mm",
    .supported = has_i8mm,
    .tile_rows = 4,
    .corrections = Corrections::kSums,
    .quantize = neon_quantize,
    .il16 = {{.run = neon_il16_f32, .chunk_cols = 512},
             {.run = neon_il16_bf16, .chunk_cols = 512},
             {.run = i8mm_il16_q8, .far_tokens = 1, .far_streams = 4},
             {.run = i8mm_il16_q6, .far_tokens = 1, .far_streams = 4},
             {.run = i8mm_il16_q4, .far_tokens = 1, .far_streams = 4}},
    .lane_dot = {neon_lane_dot_f32, neon_lane_dot_bf16, neon_lane_dot_q8, neon_lane_dot_q6, neon_lane_dot_q4},
    .sparse_down = {neon_sparse_down_f32, neon_sparse_down_bf16, neon_sparse_down_q8, neon_sparse_down_q6,
                    neon_sparse_down_q4},
    .dense = {.run = i8mm_dense, .rows = 6, .groups = 1, .sums = neon_dense_sums, .code = neon_dense_code},
    .dense16 = {.run = neon_dense16, .rows = 4, .groups = 1},
    .attention = &kPortableAttention,
    .int8_products = i8mm_products,
    .float_products = float_products,
};

}  // namespace nestling
