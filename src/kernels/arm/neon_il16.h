// What the dot-product and the matrix-multiply (i8mm) kernels for kIl16 have in common.
#pragma once

#include <cstring>

#include "kernels/arm/neon_common.h"
#include "kernels/kernel_table.h"

namespace nestling::neon {

template <int kTokens>
struct BlockSums {
  int32x4_t of[kTokens][4];  // [token][quarter of the 16 rows]
};

struct BlockPlace {
  NESTLING_NEON_INLINE BlockPlace(WeightType type, const std::byte* w, int64_t block) {
    const std::byte* superblock = w + block / 2 * il16_superblock_bytes(type);
    scales = superblock + 32 * (block % 2);
    cell = superblock + kLineBytes + block % 2 * cell_bytes(type);
  }
  const std::byte* scales;
  const std::byte* cell;
};

// The activations of the current block.
struct TileCursor {
  NESTLING_NEON_INLINE explicit TileCursor(const ActivationTile& tile)
      : codes(tile.codes), corrections(tile.corrections), scales(tile.scales) {}
  NESTLING_NEON_INLINE void advance(int tokens) {
    codes += 8 * tokens;
    corrections += tokens;
    scales += tokens;
  }
  const int32_t* codes;
  const int32_t* corrections;
  const float* scales;
};

// The float sums of a tile: they do not fit the registers beside the integer ones and live in the L1 cache.
template <int kTokens, int kStreams>
struct FloatSums {
  NESTLING_NEON_INLINE explicit FloatSums(const Il16Args& a) {
    for (int s = 0; s < kStreams; ++s)
      for (int m = 0; m < kTokens; ++m)
        if (a.accumulate)
          std::memcpy(of[s][m], a.y + m * a.y_stride + s * a.y_stream, sizeof(of[s][m]));
        else
          std::memset(of[s][m], 0, sizeof(of[s][m]));
  }
  NESTLING_NEON_INLINE void add(int s, const BlockSums<kTokens>& sums, const std::byte* w_scales,
                                const float* x_scales) {
    NESTLING_UNROLL for (int quarter = 0; quarter < 4; ++quarter) {
      const float32x4_t w_scale = load_half4(w_scales + 8 * quarter);
      NESTLING_UNROLL for (int m = 0; m < kTokens; ++m) {
        float* sum = of[s][m] + 4 * quarter;
        const float32x4_t scale = vmulq_n_f32(w_scale, x_scales[m]);
        vst1q_f32(sum, vfmaq_f32(vld1q_f32(sum), vcvtq_f32_s32(sums.of[m][quarter]), scale));
      }
    }
  }
  NESTLING_NEON_INLINE void store(const Il16Args& a) const {
    for (int s = 0; s < kStreams; ++s)
      for (int m = 0; m < kTokens; ++m)
        std::memcpy(a.y + m * a.y_stride + s * a.y_stream, of[s][m], sizeof(of[s][m]));
  }
  alignas(64) float of[kStreams][kTokens][kLanes];
};

// One row group after another.
inline void for_each_stream(const Il16Args& a, void (*run)(const Il16Args&)) {
  Il16Args one = a;
  one.streams = 1;
  for (int s = 0; s < a.streams; ++s) {
    run(one);
    one.w += a.w_stream;
    one.y += a.y_stream;
  }
}

}  // namespace nestling::neon
