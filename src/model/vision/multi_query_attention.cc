#include "model/vision/multi_query_attention.h"

#include <cmath>

#include "kernels/ops.h"

namespace nestling {
namespace {

// Keys and values are weights of products, coded like the others.
WeightType packed_type(const MultiQueryAttention& block) {
  return block.query.type == WeightType::kI8 ? WeightType::kI8 : WeightType::kF32;
}

// Of all positions M: as computed, and packed: keys [M, head_dim], values transposed [head_dim, M].
struct Shared {
  Shared(Arena& arena, const MultiQueryAttention& block, int64_t side)
      : positions(block.key_positions(side)),
        keys(arena.floats(positions * block.head_dim)),
        values(arena.floats(positions * block.head_dim)),
        packed_keys(arena.bytes(packed_bytes(packed_type(block), Layout::kIl16, positions, block.head_dim))),
        packed_values(arena.bytes(packed_bytes(packed_type(block), Layout::kIl16, block.head_dim, positions))) {}
  int64_t positions;
  float *keys, *values;
  std::byte *packed_keys, *packed_values;
};

// For one row of keys and values.
struct KeyBuffers {
  KeyBuffers(Arena& arena, const MultiQueryAttention& block, int64_t side)
      : normed(arena.floats(std::max<int64_t>(1, block.key_down.kernel) * side * block.query.cols)),
        filtered(arena.floats(block.key_side(side) * block.query.cols)),
        input(arena.dense_input(block.key_side(side), block.query.cols)) {}
  float* normed;    // rows of the normed map, those under the kernel
  float* filtered;  // a row after the depthwise convolution
  DenseInput input;
};

// For a tile of queries.
struct Buffers {
  Buffers(Arena& arena, const MultiQueryAttention& block, int64_t side, int64_t tile)
      : normed(arena.floats(tile * block.query.cols)),
        query(arena.floats(tile * block.query.rows)),
        context(arena.floats(tile * block.query.rows)),
        scores(arena.floats(tile * block.key_positions(side))),
        input(arena.dense_input(tile, std::max({block.query.cols, block.query.rows, block.key_positions(side)}))) {}
  float* normed;   // [tile][channels]; in the end the output product
  float* query;    // [tile][heads * head_dim]
  float* context;  // the same
  float* scores;   // [tile][positions] of one head
  DenseInput input;
};

// One block on one map.
class Run {
 public:
  Run(const VisionPass& pass, const MultiQueryAttention& block, const FeatureMap& map, const Shared& shared)
      : pass_(pass), block_(block), map_(map), shared_(shared) {}

  void run() {
    const int64_t key_side = block_.key_side(map_.side), tile = tile_pixels(map_.pixels(), pass_.pool.size());
    pass_.for_tiles(
        key_side, 1, [this](Arena& arena) { return KeyBuffers(arena, block_, map_.side); },
        [this](KeyBuffers& b, int64_t y, int64_t) { compute_keys_values(b, y); });
    pack_keys_values();
    pass_.for_tiles(
        map_.pixels(), tile, [&](Arena& arena) { return Buffers(arena, block_, map_.side, tile); },
        [this](Buffers& b, int64_t first, int64_t count) { attend(b, first, count); });
  }

 private:
  // Row y of keys and values.
  void compute_keys_values(KeyBuffers& b, int64_t y) const {
    const int64_t row_size = map_.side * map_.channels;
    const float* rows[kMaxDepthwiseKernel] = {b.normed};
    if (block_.key_down.empty()) norm_row(y, b.normed);
    for (int64_t ky = 0; ky < block_.key_down.kernel; ++ky) {
      const int64_t row = block_.key_down.input_row(map_.side, y, ky);
      const bool inside = row >= 0 && row < map_.side;
      rows[ky] = inside ? b.normed + ky * row_size : nullptr;
      if (inside) norm_row(row, b.normed + ky * row_size);
    }
    project_row(b, block_.key_down, rows, block_.key, y, shared_.keys);
    project_row(b, block_.value_down, rows, block_.value, y, shared_.values);
  }
  void norm_row(int64_t y, float* out) const {
    const int64_t C = map_.channels;
    for (int64_t x = 0; x < map_.side; ++x)
      rms_norm(map_.row(y) + x * C, block_.norm, kVisionNormEps, C, out + x * C);
  }
  // Row y of keys or values [positions][head_dim] from the normed rows under the kernel.
  void project_row(KeyBuffers& b, const Depthwise& down, const float* const* rows, const WeightMatrix& w, int64_t y,
                   float* out) const {
    const int64_t side = block_.key_side(map_.side), C = map_.channels;
    const float* x = rows[0];
    if (!down.empty()) {
      down.run(rows, map_.side, 0, side, b.filtered);
      for (int64_t i = 0; i < side; ++i)
        rms_norm(b.filtered + i * C, down.norm, kVisionNormEps, C, b.filtered + i * C);
      x = b.filtered;
    }
    pass_.product(b.input, x, C, side, w, out + y * side * block_.head_dim, block_.head_dim);
  }

  void pack_keys_values() {
    const int64_t M = shared_.positions, d = block_.head_dim;
    const WeightType type = packed_type(block_);
    pass_.pool.for_ranges(2, 1, [&](int64_t begin, int64_t end) {
      if (begin == 0) keys_ = pack_dense(type, M, d, shared_.keys, d, 1, shared_.packed_keys);
      if (end == 2) values_ = pack_dense(type, d, M, shared_.values, 1, d, shared_.packed_values);
    });
  }

  void attend(Buffers& b, int64_t first, int64_t count) const {
    const int64_t C = map_.channels, d = block_.head_dim, width = block_.query.rows;
    for (int64_t i = 0; i < count; ++i)
      rms_norm(map_.pixel(first + i), block_.norm, kVisionNormEps, C, b.normed + i * C);
    pass_.product(b.input, b.normed, C, count, block_.query, b.query, width);
    const float scale = 1.0f / std::sqrt(static_cast<float>(d));
    for (int64_t i = 0; i < count * width; ++i) b.query[i] *= scale;
    for (int64_t offset = 0; offset < width; offset += d) attend_head(b, offset, count);
    pass_.product(b.input, b.context, width, count, block_.output, b.normed, C);
    for (int64_t i = 0; i < count; ++i) multiply_add(map_.pixel(first + i), block_.scale, b.normed + i * C, C);
  }
  // The head whose columns begin at `offset`.
  void attend_head(Buffers& b, int64_t offset, int64_t count) const {
    const int64_t M = shared_.positions, width = block_.query.rows;
    pass_.product(b.input, b.query + offset, width, count, keys_, b.scores, M);
    for (int64_t i = 0; i < count; ++i) softmax(b.scores + i * M, M);
    pass_.product(b.input, b.scores, M, count, values_, b.context + offset, width);
  }

  const VisionPass& pass_;
  const MultiQueryAttention& block_;
  const FeatureMap& map_;
  const Shared& shared_;
  WeightMatrix keys_, values_;
};

}  // namespace

uint64_t scratch_bytes(const MultiQueryAttention& block, int64_t side, int64_t tile) {
  Arena keys, queries;
  KeyBuffers(keys, block, side);
  Buffers(queries, block, side, tile);
  return std::max(keys.used(), queries.used());
}

uint64_t shared_bytes(const MultiQueryAttention& block, int64_t side) {
  Arena arena;
  Shared(arena, block, side);
  return arena.used();
}

void run_block(const VisionPass& pass, const MultiQueryAttention& block, const FeatureMap& map, std::byte* shared) {
  Arena arena(shared, shared_bytes(block, map.side));
  const Shared keys_values(arena, block, map.side);
  Run(pass, block, map, keys_values).run();
}

}  // namespace nestling
