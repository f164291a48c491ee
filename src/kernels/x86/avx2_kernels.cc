#include "kernels/x86/avx2_kernels.h"

#include "kernels/attention_portable.h"
#include "kernels/x86/avx2_common.h"

namespace nestling {
namespace {

// pmaddubsw, pmaddwd, paddd: what any 8-bit weights can do. 4-bit codes can do better, they need fewer pmaddwd.
int64_t int8_products(int64_t rounds) {
  constexpr int kChains = 8;
  __m256i acc[kChains];
  NESTLING_UNROLL for (int c = 0; c < kChains; ++c) acc[c] = _mm256_setzero_si256();
  const __m256i w = _mm256_set1_epi8(3), x = _mm256_set1_epi8(-5), ones = _mm256_set1_epi16(1);
  for (int64_t i = 0; i < rounds; ++i)
    NESTLING_UNROLL for (int c = 0; c < kChains; ++c) {
      __m256i products;
      asm volatile("vpmaddubsw %2, %3, %1\n\tvpmaddwd %4, %1, %1\n\tvpaddd %1, %0, %0"
                   : "+x"(acc[c]), "=&x"(products)
                   : "x"(x), "x"(w), "x"(ones));
    }
  return rounds * kChains * 32;
}

}  // namespace

bool avx2_supported() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
}

int64_t avx2_float_products(int64_t rounds) {
  constexpr int kChains = 10;  // four cycles of latency, two a cycle, and a few to spare
  __m256 acc[kChains];
  NESTLING_UNROLL for (int c = 0; c < kChains; ++c) acc[c] = _mm256_setzero_ps();
  const __m256 w = _mm256_set1_ps(3), x = _mm256_set1_ps(0.5f);
  for (int64_t i = 0; i < rounds; ++i)
    NESTLING_UNROLL for (int c = 0; c < kChains; ++c)
        asm volatile("vfmadd231ps %2, %1, %0" : "+x"(acc[c]) : "x"(w), "x"(x));
  return rounds * kChains * 8;
}

// Four far sub-ranges in lock-step, measured at one token (16,384 x 2,048 from memory, one core): 91 to 99 % of plain
// reading on Zen 4. Kernels of this shape on Zen 3: 97 %, against 76 to 88 % with one stream and prefetch; from 4 tokens
// on one stream was as fast there.
constinit const KernelTable kAvx2Kernels = {
    .name = "avx2",
    .supported = avx2_supported,
    .tile_rows = 6,
    .corrections = Corrections::kPacked,
    .quantize = avx2_quantize_packed,
    .il16 = {{.run = avx2_il16_f32, .far_tokens = 1, .far_streams = 4, .near_streams = 4, .chunk_cols = 512},
             {.run = avx2_il16_bf16, .far_tokens = 1, .far_streams = 4, .near_streams = 4, .chunk_cols = 512},
             {.run = avx2_il16_q8, .far_tokens = 3, .far_streams = 4},
             {.run = avx2_il16_q6, .far_tokens = 3, .far_streams = 4},
             {.run = avx2_il16_q4, .far_tokens = 3, .far_streams = 4}},
    .lane_dot = {avx2_lane_dot_f32, avx2_lane_dot_bf16, avx2_lane_dot_q8, avx2_lane_dot_q6, avx2_lane_dot_q4},
    .sparse_down = {avx2_sparse_down_f32, avx2_sparse_down_bf16, avx2_sparse_down_q8, avx2_sparse_down_q6,
                    avx2_sparse_down_q4},
    .dense = {.run = avx2_dense, .rows = 4, .groups = 1, .sums = avx2_dense_sums,
              .code = avx2_dense_code},
    .dense16 = {.run = avx2_dense16, .rows = 6, .groups = 1},
    .attention = &kPortableAttention,
    .int8_products = int8_products,
    .float_products = avx2_float_products,
};

}  // namespace nestling
