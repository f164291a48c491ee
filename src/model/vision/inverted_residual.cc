#include "model/vision/inverted_residual.h"

#include "kernels/ops.h"

namespace nestling {
namespace {

struct Buffers {
  Buffers(Arena& arena, const InvertedResidual& block, int64_t side, int64_t tile)
      : filtered(block.start.empty() ? nullptr : arena.floats(tile * block.pw_exp.cols)),
        expanded(arena.floats(tile * block.pw_exp.rows)),
        projected(arena.floats(tile * block.pw_proj.rows)),
        ring(arena.floats(block.middle.kernel * side * block.pw_exp.rows)),
        input(arena.dense_input(tile, std::max(block.pw_exp.cols, block.pw_proj.cols))) {}
  float* filtered;   // [tile][in], after the first depthwise convolution
  float* expanded;   // [tile][mid]
  float* projected;  // [tile][out]
  float* ring;       // the last rows of the expanded map, as many as the second depthwise kernel has
  DenseInput input;
};

// One block on one map.
class Run {
 public:
  Run(const VisionPass& pass, const InvertedResidual& block, const FeatureMap& in, const FeatureMap& out)
      : pass_(pass), block_(block), in_(in), out_(out), mid_(block.pw_exp.rows),
        tile_(tile_pixels(out.pixels(), pass.pool.size())) {}

  void run() const {
    const auto make = [this](Arena& arena) { return Buffers(arena, block_, in_.side, tile_); };
    if (block_.middle.empty()) {
      pass_.for_tiles(out_.pixels(), tile_, make, [this](Buffers& b, int64_t first, int64_t count) {
        expand(b, first, count, b.expanded);
        project(b, first, count);
      });
      return;
    }
    // Rows of one thread lie together: at its first one a thread has the rows above to compute again.
    pass_.for_tiles(out_.side, ceil_div(out_.side, pass_.pool.size()), make,
                    [this](Buffers& b, int64_t first, int64_t count) { run_rows(b, first, first + count); });
  }

 private:
  // Pixels [first, first + count) of the expanded map into expanded [count][mid].
  void expand(Buffers& b, int64_t first, int64_t count, float* expanded) const {
    const int64_t C = in_.channels;
    const float* x = in_.pixel(first);
    if (!block_.start.empty()) {
      block_.start.run(in_, first, count, b.filtered);
      for (int64_t i = 0; i < count; ++i)
        rms_norm(b.filtered + i * C, block_.start.norm, kVisionNormEps, C, b.filtered + i * C);
      x = b.filtered;
    }
    pass_.product(b.input, x, C, count, block_.pw_exp, expanded, mid_);
    norm_gelu_rows(expanded, count, block_.exp_norm);
  }

  void norm_gelu_rows(float* rows, int64_t count, const float* weight) const {
    for (int64_t i = 0; i < count; ++i) {
      float* row = rows + i * mid_;
      rms_norm_gelu(row, weight, kVisionNormEps, mid_, row);
    }
  }

  // Pixels [first, first + count) of the output from b.expanded.
  void project(Buffers& b, int64_t first, int64_t count) const {
    const int64_t C = out_.channels;
    pass_.product(b.input, b.expanded, mid_, count, block_.pw_proj, b.projected, C);
    for (int64_t i = 0; i < count; ++i) {
      const float* row = b.projected + i * C;
      if (block_.skip)
        add_rms_norm(in_.pixel(first + i), row, block_.proj_norm, kVisionNormEps, C, out_.pixel(first + i));
      else
        rms_norm(row, block_.proj_norm, kVisionNormEps, C, out_.pixel(first + i));
    }
  }

  // Rows [begin, end) of the output, with the rows of the expanded map that they read in a ring.
  void run_rows(Buffers& b, int64_t begin, int64_t end) const {
    const Depthwise& middle = block_.middle;
    int64_t next = std::max<int64_t>(0, middle.input_row(in_.side, begin, 0));
    for (int64_t y = begin; y < end; ++y) {
      const float* rows[kMaxDepthwiseKernel];
      for (int64_t ky = 0; ky < middle.kernel; ++ky) {
        const int64_t row = middle.input_row(in_.side, y, ky);
        const bool inside = row >= 0 && row < in_.side;
        for (; inside && next <= row; ++next) expand_row(b, next);
        rows[ky] = inside ? ring_row(b, row) : nullptr;
      }
      for (int64_t x = 0; x < out_.side; x += tile_) {
        const int64_t count = std::min(tile_, out_.side - x);
        middle.run(rows, in_.side, x, count, b.expanded);
        norm_gelu_rows(b.expanded, count, middle.norm);
        project(b, y * out_.side + x, count);
      }
    }
  }
  void expand_row(Buffers& b, int64_t y) const {
    for (int64_t x = 0; x < in_.side; x += tile_)
      expand(b, y * in_.side + x, std::min(tile_, in_.side - x), ring_row(b, y) + x * mid_);
  }
  float* ring_row(const Buffers& b, int64_t y) const { return b.ring + y % block_.middle.kernel * in_.side * mid_; }

  const VisionPass& pass_;
  const InvertedResidual& block_;
  const FeatureMap& in_;
  const FeatureMap& out_;
  int64_t mid_, tile_;
};

}  // namespace

uint64_t scratch_bytes(const InvertedResidual& block, int64_t side, int64_t tile) {
  Arena arena;
  Buffers(arena, block, side, tile);
  return arena.used();
}

void run_block(const VisionPass& pass, const InvertedResidual& block, const FeatureMap& in, const FeatureMap& out) {
  Run(pass, block, in, out).run();
}

}  // namespace nestling
