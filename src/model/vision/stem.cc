#include "model/vision/stem.h"

#include "kernels/ops.h"
#include "model/vision/gather.h"

namespace nestling {
namespace {

struct Buffers {
  Buffers(Arena& arena, const Stem& stem, int64_t tile)
      : windows(arena.floats(tile * stem.conv.cols)), input(arena.dense_input(tile, stem.conv.cols)) {}
  float* windows;
  DenseInput input;
};

}  // namespace

uint64_t stem_scratch_bytes(const Stem& stem, int64_t tile) {
  Arena arena;
  Buffers(arena, stem, tile);
  return arena.used();
}

void run_stem(const VisionPass& pass, const Stem& stem, const FeatureMap& pixels, const FeatureMap& out) {
  const int64_t C = out.channels, K = stem.conv.cols, tile = tile_pixels(out.pixels(), pass.pool.size());
  pass.for_tiles(
      out.pixels(), tile, [&](Arena& arena) { return Buffers(arena, stem, tile); },
      [&](Buffers& b, int64_t first, int64_t count) {
        gather_windows(pixels, 2, first, count, b.windows);
        pass.product(b.input, b.windows, K, count, stem.conv, out.pixel(first), C);
        for (int64_t i = first; i < first + count; ++i) {
          float* row = out.pixel(i);
          for (int64_t c = 0; c < C; ++c) row[c] += stem.bias[c];
          rms_norm_gelu(row, stem.norm, kVisionNormEps, C, row);
        }
      });
}

}  // namespace nestling
