// What the parts of the vision network share during one picture: maps of features and the split of work over threads.
#pragma once

#include <algorithm>
#include <atomic>

#include "model/vision/arena.h"
#include "model/vision/feature_map.h"

namespace nestling {

inline constexpr float kVisionNormEps = 1e-6f;
// Most pixels a thread carries through a block at a time: what they need stays in a core's second-level cache.
inline constexpr int64_t kTilePixels = 48;

// Pixels of a tile of `pixels`, so that every thread gets some.
inline int64_t tile_pixels(int64_t pixels, int threads) {
  return std::min(kTilePixels, round_up(ceil_div(pixels, threads), 8));
}

struct VisionPass {
  const Kernels& kernels;
  ThreadPool& pool;
  std::byte* scratch = nullptr;  // [threads][scratch_bytes]
  uint64_t scratch_bytes = 0;

  // Splits `count` units into tiles of `tile`: body(buffers, first, n) for each, whichever thread is free; `buffers` is
  // make(arena) once per thread. A result must not depend on the tile it was computed in.
  template <typename Make, typename Body>
  void for_tiles(int64_t count, int64_t tile, Make make, Body body) const {
    std::atomic<int64_t> next{0};
    pool.run([&](int thread) {
      Arena arena(scratch + static_cast<uint64_t>(thread) * scratch_bytes, scratch_bytes);
      auto buffers = make(arena);
      for (int64_t first; (first = next.fetch_add(tile, std::memory_order_relaxed)) < count;)
        body(buffers, first, std::min(tile, count - first));
    });
  }

  // y [rows, w.rows] = x [rows, w.cols] W^T on the calling thread.
  void product(DenseInput& input, const float* x, int64_t x_stride, int64_t rows, const WeightMatrix& w, float* y,
               int64_t y_stride) const {
    input.assign(kernels, x, rows, w.cols, x_stride, w.type);
    dense(kernels, input, w, y, y_stride);
  }
};

}  // namespace nestling
