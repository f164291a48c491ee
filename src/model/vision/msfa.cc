#include "model/vision/msfa.h"

#include <cstring>

#include "kernels/ops.h"
#include "tensor/layout.h"

namespace nestling {
namespace {

// A tile is whole windows, which become one row of the output each.
struct Tiling {
  Tiling(int64_t side, int threads)
      : window(side / kFusionSide),
        tokens(std::max<int64_t>(1, tile_pixels(side * side, threads) / (window * window))),
        pixels(tokens * window * window) {}
  int64_t window, tokens, pixels;
};

struct Buffers {
  Buffers(Arena& arena, const Msfa& msfa, int64_t pixels)
      : features(arena.floats(pixels * msfa.fine_exp.cols)),
        expanded(arena.floats(pixels * msfa.pw_proj.cols)),
        projected(arena.floats(pixels * msfa.pw_proj.rows)),
        input(arena.dense_input(pixels, std::max(msfa.fine_exp.cols, msfa.pw_proj.cols))) {}
  float *features, *expanded, *projected;
  DenseInput input;
};

// The fusion of two maps.
class Run {
 public:
  Run(const VisionPass& pass, const Msfa& msfa, const FeatureMap& fine, const FeatureMap& coarse,
      float* coarse_expanded)
      : pass_(pass), msfa_(msfa), fine_(fine), coarse_(coarse),
        coarse_expanded_{coarse_expanded, coarse.side, msfa.coarse_exp.rows}, tiling_(fine.side, pass.pool.size()) {}

  void run(float* out) const {
    const int64_t tile = tile_pixels(coarse_.pixels(), pass_.pool.size());
    pass_.for_tiles(
        coarse_.pixels(), tile, [&](Arena& arena) { return arena.dense_input(tile, coarse_.channels); },
        [&](DenseInput& input, int64_t first, int64_t count) {
          pass_.product(input, coarse_.pixel(first), coarse_.channels, count, msfa_.coarse_exp,
                        coarse_expanded_.pixel(first), coarse_expanded_.channels);
        });
    pass_.for_tiles(
        kFusionSide * kFusionSide, tiling_.tokens, [&](Arena& arena) { return Buffers(arena, msfa_, tiling_.pixels); },
        [&](Buffers& b, int64_t first, int64_t tokens) { fuse(b, first, tokens, out + first * msfa_.pw_proj.rows); });
  }

 private:
  // Calls body(i, y, x) for the pixels of the windows of `tokens` outputs, window after window.
  template <typename Body>
  void for_pixels(int64_t first, int64_t tokens, Body body) const {
    const int64_t window = tiling_.window;
    for (int64_t i = 0; i < tokens * window * window; ++i) {
      const int64_t token = first + i / (window * window), inside = i % (window * window);
      body(i, token / kFusionSide * window + inside / window, token % kFusionSide * window + inside % window);
    }
  }

  void fuse(Buffers& b, int64_t first, int64_t tokens, float* out) const {
    const int64_t area = tiling_.window * tiling_.window, pixels = tokens * area;
    const int64_t mid = msfa_.pw_proj.cols, width = msfa_.pw_proj.rows, C = fine_.channels;
    for_pixels(first, tokens, [&](int64_t i, int64_t y, int64_t x) {
      std::copy_n(fine_.row(y) + x * C, C, b.features + i * C);
    });
    pass_.product(b.input, b.features, C, pixels, msfa_.fine_exp, b.expanded, mid);
    for_pixels(first, tokens, [&](int64_t i, int64_t y, int64_t x) {
      float* row = b.expanded + i * mid;
      const float* add = coarse_expanded_.row(y / 2) + x / 2 * mid;
      for (int64_t c = 0; c < mid; ++c) row[c] += add[c];
      rms_norm_gelu(row, msfa_.exp_norm, kVisionNormEps, mid, row);
    });
    pass_.product(b.input, b.expanded, mid, pixels, msfa_.pw_proj, b.projected, width);
    for (int64_t token = 0; token < tokens; ++token, out += width) {
      std::fill_n(out, width, 0.0f);
      for (int64_t i = 0; i < area; ++i)
        add_rms_norm(out, b.projected + (token * area + i) * width, msfa_.proj_norm, kVisionNormEps, width, out);
      for (int64_t c = 0; c < width; ++c) out[c] /= static_cast<float>(area);
      rms_norm(out, msfa_.norm, kVisionNormEps, width, out);
    }
  }

  const VisionPass& pass_;
  const Msfa& msfa_;
  const FeatureMap &fine_, &coarse_;
  const FeatureMap coarse_expanded_;
  const Tiling tiling_;
};

}  // namespace

WeightMatrix columns_of(const WeightMatrix& w, int64_t first, int64_t count, std::byte* out) {
  const uint64_t from_group = il16_group_bytes(w.type, w.cols), to_group = il16_group_bytes(w.type, count);
  // i8: words of 4 inputs, 16 rows to a line; floats: inputs, 16 rows to a line.
  const int64_t bytes = w.type == WeightType::kI8 ? 1 : float_bytes(w.type), word = w.type == WeightType::kI8 ? 4 : 1;
  const auto place = [&](int64_t row, int64_t col) {
    return (col / word * kRowGroup + row) * word * bytes + col % word;
  };
  for (int64_t group = 0; group < row_groups(w.rows); ++group) {
    const std::byte* from = w.data + static_cast<uint64_t>(group) * from_group;
    std::byte* to = out + static_cast<uint64_t>(group) * to_group;
    for (int64_t col = 0; col < count; ++col)
      for (int64_t row = 0; row < kRowGroup; ++row)
        std::memcpy(to + place(row, col), from + place(row, first + col), static_cast<size_t>(bytes));
    if (w.type == WeightType::kI8) std::memcpy(to + to_group - kLineBytes, from + from_group - kLineBytes, kLineBytes);
  }
  return {w.type, Layout::kIl16, w.rows, count, w.rows, count, out, packed_bytes(w.type, Layout::kIl16, w.rows, count)};
}

uint64_t msfa_scratch_bytes(const Msfa& msfa, int64_t side, int threads) {
  const int64_t coarse_side = side / 2;
  Arena coarse, fine;
  coarse.dense_input(tile_pixels(coarse_side * coarse_side, threads), msfa.coarse_exp.cols);
  Buffers(fine, msfa, Tiling(side, threads).pixels);
  return std::max(coarse.used(), fine.used());
}

void run_msfa(const VisionPass& pass, const Msfa& msfa, const FeatureMap& fine, const FeatureMap& coarse,
              float* expanded, float* out) {
  Run(pass, msfa, fine, coarse, expanded).run(out);
}

}  // namespace nestling
