#include "kernels/x86/avx512_kernels.h"

#include "kernels/x86/avx2_kernels.h"
#include "kernels/x86/avx512_common.h"

namespace nestling {
namespace {

bool supported() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512vnni");
}

NESTLING_AVX512 int64_t int8_products(int64_t rounds) {
  constexpr int kChains = 16;
  __m512i acc[kChains];
  NESTLING_UNROLL for (int c = 0; c < kChains; ++c) acc[c] = _mm512_setzero_si512();
  const __m512i w = _mm512_set1_epi8(3), x = _mm512_set1_epi8(-5);
  for (int64_t i = 0; i < rounds; ++i)
    NESTLING_UNROLL for (int c = 0; c < kChains; ++c)
        asm volatile("vpdpbusd %2, %1, %0" : "+v"(acc[c]) : "v"(w), "v"(x));
  return rounds * kChains * 64;
}

NESTLING_AVX512 int64_t float_products(int64_t rounds) {
  constexpr int kChains = 16;
  __m512 acc[kChains];
  NESTLING_UNROLL for (int c = 0; c < kChains; ++c) acc[c] = _mm512_setzero_ps();
  const __m512 w = _mm512_set1_ps(3), x = _mm512_set1_ps(0.5f);
  for (int64_t i = 0; i < rounds; ++i)
    NESTLING_UNROLL for (int c = 0; c < kChains; ++c)
        asm volatile("vfmadd231ps %2, %1, %0" : "+v"(acc[c]) : "v"(w), "v"(x));
  return rounds * kChains * 16;
}

}  // namespace

// Measured on Zen 4 (16,384 x 2,048 from memory, one core): four far sub-ranges in lock-step without prefetch reach 92
// to 95 % of plain reading at one token, one stream with any prefetch 57 to 77 %.
// Coding activations and the sums of sparse_down, a small part of the time, are shared with the AVX2 set.
constinit const KernelTable kAvx512Kernels = {
    .name = "avx512",
    .supported = supported,
    .tile_rows = 6,
    .corrections = Corrections::kSums,
    .quantize = avx2_quantize_sums,
    .il16 = {{.run = avx512_il16_f32, .far_tokens = 1, .far_streams = 4, .near_streams = 4, .chunk_cols = 512},
             {.run = avx512_il16_bf16, .far_tokens = 1, .far_streams = 4, .near_streams = 4, .chunk_cols = 512},
             {.run = avx512_il16_q8, .far_tokens = 32, .far_streams = 4, .near_streams = 2},
             {.run = avx512_il16_q6, .far_tokens = 32, .far_streams = 4, .near_streams = 2},
             {.run = avx512_il16_q4, .far_tokens = 32, .far_streams = 4, .near_streams = 2}},
    .lane_dot = {avx2_lane_dot_f32, avx2_lane_dot_bf16, avx512_lane_dot_q8, avx512_lane_dot_q6, avx512_lane_dot_q4},
    .sparse_down = {avx2_sparse_down_f32, avx2_sparse_down_bf16, avx2_sparse_down_q8, avx2_sparse_down_q6,
                    avx2_sparse_down_q4},
    .dense = {.run = avx512_dense, .rows = 12, .groups = 2, .sums = avx512_dense_sums, .code = avx2_dense_code},
    .dense16 = {.run = avx512_dense16, .rows = 12, .groups = 2},
    .attention = &kAvx512Attention,
    .int8_products = int8_products,
    .float_products = float_products,
};

}  // namespace nestling
