// What the AVX2 and the AVX-VNNI products of quantised weights in kIl16 have in common: everything but the dot products
// of a block. `Dot` forms those,
//   Dot::run<type, tokens>(cell, x, corrections, sums),
// and lies in an unnamed namespace, so that no two files share a function.
#pragma once

#include <cstring>

#include "kernels/kernel_table.h"
#include "kernels/x86/avx2_common.h"

namespace nestling::avx2 {

template <int kTokens>
struct BlockSums {
  __m256i of[kTokens][2];  // int32 dots of one block, [token][half of the 16 rows]
};

template <class Dot, WeightType kType, int kTokens, int kStreams>
void quantized_tile(const Il16Args& a) {
  // The float sums do not fit beside the integer ones; they live in the L1 cache.
  alignas(32) float acc[kStreams][kTokens][kLanes] = {};
  if (a.accumulate)
    for (int s = 0; s < kStreams; ++s)
      for (int m = 0; m < kTokens; ++m)
        std::memcpy(acc[s][m], a.y + m * a.y_stride + s * a.y_stream, sizeof(acc[s][m]));
  const int32_t* x = a.tile.codes;
  const int32_t* corrections = a.tile.corrections;
  const float* x_scales = a.tile.scales;
  const int64_t blocks = a.cols / kQuantBlock;
  for (int64_t block = 0; block < blocks; ++block) {
    const std::byte* superblock = a.w + block / 2 * il16_superblock_bytes(kType);
    const int64_t half_block = block % 2;
    for (int s = 0; s < kStreams; ++s, superblock += a.w_stream) {
      const std::byte* cell = superblock + kLineBytes + half_block * cell_bytes(kType);
      BlockSums<kTokens> sums;
      Dot::template run<kType, kTokens>(cell, x, corrections, sums);
      NESTLING_UNROLL for (int half = 0; half < 2; ++half) {
        const __m256 w_scale = load_half8(superblock + 32 * half_block + 16 * half);
        NESTLING_UNROLL for (int m = 0; m < kTokens; ++m) {
          float* sum = acc[s][m] + 8 * half;
          const __m256 scale = _mm256_mul_ps(w_scale, _mm256_broadcast_ss(x_scales + m));
          _mm256_store_ps(sum, _mm256_fmadd_ps(_mm256_cvtepi32_ps(sums.of[m][half]), scale, _mm256_load_ps(sum)));
        }
      }
    }
    x += 8 * kTokens;
    corrections += Dot::kCorrectionWords * kTokens;
    x_scales += kTokens;
  }
  for (int s = 0; s < kStreams; ++s)
    for (int m = 0; m < kTokens; ++m)
      std::memcpy(a.y + m * a.y_stride + s * a.y_stream, acc[s][m], sizeof(acc[s][m]));
}

template <class Dot, WeightType kType, int kStreams>
void quantized_streams(const Il16Args& a) {
  switch (a.tokens) {
    case 1: return quantized_tile<Dot, kType, 1, kStreams>(a);
    case 2: return quantized_tile<Dot, kType, 2, kStreams>(a);
    case 3: return quantized_tile<Dot, kType, 3, kStreams>(a);
    case 4: return quantized_tile<Dot, kType, 4, kStreams>(a);
    case 5: return quantized_tile<Dot, kType, 5, kStreams>(a);
    case 6: return quantized_tile<Dot, kType, 6, kStreams>(a);
  }
}

template <class Dot, WeightType kType>
void quantized_il16(const Il16Args& a) {
  if (a.streams == 4) return quantized_streams<Dot, kType, 4>(a);
  Il16Args one = a;
  one.streams = 1;
  for (int s = 0; s < a.streams; ++s) {
    quantized_streams<Dot, kType, 1>(one);
    one.w += a.w_stream;
    one.y += a.y_stream;
  }
}

}  // namespace nestling::avx2
