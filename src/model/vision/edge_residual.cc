#include "model/vision/edge_residual.h"

#include "kernels/ops.h"
#include "model/vision/gather.h"

namespace nestling {
namespace {

struct Buffers {
  Buffers(Arena& arena, const EdgeResidual& block, int64_t tile)
      : windows(arena.floats(tile * block.conv_exp.cols)),
        expanded(arena.floats(tile * block.conv_exp.rows)),
        input(arena.dense_input(tile, std::max(block.conv_exp.cols, block.conv_pwl.cols))) {}
  float* windows;
  float* expanded;
  DenseInput input;
};

}  // namespace

uint64_t scratch_bytes(const EdgeResidual& block, int64_t tile) {
  Arena arena;
  Buffers(arena, block, tile);
  return arena.used();
}

void run_block(const VisionPass& pass, const EdgeResidual& block, const FeatureMap& in, const FeatureMap& out) {
  const int64_t mid = block.conv_exp.rows, C = out.channels, tile = tile_pixels(out.pixels(), pass.pool.size());
  pass.for_tiles(
      out.pixels(), tile, [&](Arena& arena) { return Buffers(arena, block, tile); },
      [&](Buffers& b, int64_t first, int64_t count) {
        gather_windows(in, block.stride, first, count, b.windows);
        pass.product(b.input, b.windows, block.conv_exp.cols, count, block.conv_exp, b.expanded, mid);
        for (int64_t i = 0; i < count; ++i) {
          float* row = b.expanded + i * mid;
          rms_norm_gelu(row, block.exp_norm, kVisionNormEps, mid, row);
        }
        pass.product(b.input, b.expanded, mid, count, block.conv_pwl, out.pixel(first), C);
        for (int64_t i = first; i < first + count; ++i) {
          float* row = out.pixel(i);
          if (block.skip)
            add_rms_norm(in.pixel(i), row, block.pwl_norm, kVisionNormEps, C, row);
          else
            rms_norm(row, block.pwl_norm, kVisionNormEps, C, row);
        }
      });
}

}  // namespace nestling
