#include "kernels/attention.h"

#include <algorithm>
#include <atomic>
#include <limits>

#include "base/check.h"
#include "kernels/attention_kernel.h"
#include "kernels/kernel_table.h"
#include "kernels/simd.h"

namespace nestling {
namespace {

// Query rows that share one pass over the keys and values.
constexpr int64_t kTileRows = 8;
// Segments of a single row that are computed apart before they are joined; a row with more of them is not divided.
constexpr int64_t kMostParts = 64;

// Softmax over a part of the positions, for some queries: weights relative to the largest score, their total, and the
// values they weigh.
struct Sums {
  float* max;    // [queries]
  float* total;  // [queries]
  float* sums;   // [queries, padded head_dim]

  static int64_t floats(int64_t queries, int64_t head_dim) {
    return round_up(queries * (padded_head_dim(head_dim) + 2), 16);
  }
  static Sums at(float* memory, int64_t queries, int64_t head_dim) {
    float* max = memory + queries * padded_head_dim(head_dim);
    return {max, max + queries, memory};
  }
  void clear(int64_t queries, int64_t head_dim) const {
    std::fill_n(max, queries, -std::numeric_limits<float>::infinity());
    std::fill_n(total, queries, 0.0f);
    std::fill_n(sums, queries * padded_head_dim(head_dim), 0.0f);
  }
};

// a = a joined with b, the positions of which come later. One function for every caller: the same instructions, the same
// bits.
[[gnu::noinline]] void join(const Sums& a, const Sums& b, int64_t queries, int64_t head_dim) {
  const int64_t width = padded_head_dim(head_dim);
  for (int64_t i = 0; i < queries; ++i) {
    if (b.total[i] == 0) continue;
    const float max = std::max(a.max[i], b.max[i]);
    const float scale_a = exp1(a.max[i] - max), scale_b = exp1(b.max[i] - max);
    float* x = a.sums + i * width;
    const float* y = b.sums + i * width;
    for (int64_t d = 0; d < width; d += 8) store8(x + d, load8(x + d) * scale_a + load8(y + d) * scale_b);
    a.total[i] = a.total[i] * scale_a + b.total[i] * scale_b;
    a.max[i] = max;
  }
}

// Memory of one thread.
struct Scratch {
  float* q;        // [dimension][queries] of up to `queries` together, one group after another
  float* weights;  // [queries, kKvBlock]
  float* scales;   // [queries]
  float* part;     // Sums of a segment
  float* whole;    // Sums of all

  static int64_t floats(int64_t queries, int64_t head_dim) {
    return queries * padded_head_dim(head_dim) + round_up(queries * (kKvBlock + 1), 16) +
           2 * Sums::floats(queries, head_dim);
  }
  static Scratch at(float* memory, int64_t queries, int64_t head_dim) {
    Scratch s;
    s.q = memory;
    s.weights = s.q + queries * padded_head_dim(head_dim);
    s.scales = s.weights + queries * kKvBlock;
    s.part = s.weights + round_up(queries * (kKvBlock + 1), 16);
    s.whole = s.part + Sums::floats(queries, head_dim);
    return s;
  }
};

// The query heads of one kv head, for a tile of rows.
class Tile {
 public:
  Tile(const AttentionKernel& kernel, const KvLayer& kv, const AttentionRows& rows, int64_t kv_head, int64_t row0,
       int64_t row1, const Scratch& scratch)
      : kernel_(kernel), kv_(kv), rows_(rows), kv_head_(kv_head), row0_(row0), row1_(row1), scratch_(scratch),
        group_(rows.heads / kv.kv_heads()), queries_((row1 - row0) * group_), head_dim_(kv.head_dim()) {
    pack_queries();
  }

  int64_t queries() const { return queries_; }
  // Segments that hold positions some row may read.
  int64_t first_segment() const { return first_allowed(position(row0_)) / kKvSegment; }
  int64_t end_segment() const { return position(row1_ - 1) / kKvSegment + 1; }

  void run_segment(int64_t segment, const Sums& out) const {
    out.clear(queries_, head_dim_);
    const int64_t last = std::min((segment + 1) * kKvSegment - 1, position(row1_ - 1));
    int64_t block = std::max(first_allowed(position(row0_)) / kKvBlock * kKvBlock, segment * kKvSegment);
    for (; block <= last; block += kKvBlock) add_block(block, block + kKvBlock <= last, out);
  }

  // All segments, joined in order.
  void run(const Sums& part, const Sums& whole) const {
    whole.clear(queries_, head_dim_);
    for (int64_t segment = first_segment(); segment < end_segment(); ++segment) {
      run_segment(segment, part);
      join(whole, part, queries_, head_dim_);
    }
  }

  void write(const Sums& sums) const {
    for (int64_t i = 0; i < queries_; ++i) {
      const int64_t row = row0_ + i / group_, head = kv_head_ * group_ + i % group_;
      float* out = rows_.out + row * rows_.stride + head * head_dim_;
      const float* in = sums.sums + i * padded_head_dim(head_dim_);
      for (int64_t d = 0; d < head_dim_; ++d) out[d] = in[d] / sums.total[i];
    }
  }

 private:
  int64_t position(int64_t row) const { return rows_.first_position + row; }
  int64_t first_allowed(int64_t at) const { return rows_.window > 0 ? std::max<int64_t>(0, at - rows_.window + 1) : 0; }
  int64_t together(int64_t first) const { return std::min<int64_t>(kernel_.queries, queries_ - first); }

  void pack_queries() const {
    const int64_t width = padded_head_dim(head_dim_);
    for (int64_t first = 0; first < queries_; first += kernel_.queries) {
      const int64_t count = together(first);
      float* out = scratch_.q + first * width;
      for (int64_t m = 0; m < count; ++m) {
        const int64_t row = row0_ + (first + m) / group_, head = kv_head_ * group_ + (first + m) % group_;
        const float* q = rows_.q + row * rows_.stride + head * head_dim_;
        for (int64_t d = 0; d < head_dim_; ++d) out[d * count + m] = q[d];
      }
      std::fill(out + head_dim_ * count, out + width * count, 0.0f);
    }
  }

  void add_block(int64_t first_position, bool more, const Sums& out) const {
    AttentionBlock block;
    block.keys = kv_.keys(kv_head_, first_position);
    block.values = kv_.values(kv_head_, first_position);
    block.key_scales = kv_.key_scales(kv_head_, first_position);
    block.head_dim = head_dim_;
    const int64_t width = padded_head_dim(head_dim_);
    const auto type = static_cast<size_t>(kv_.type());
    for (int64_t first = 0; first < queries_; first += kernel_.queries) {
      block.queries = static_cast<int>(together(first));
      block.q = scratch_.q + first * width;
      block.scores = scratch_.weights + first * kKvBlock;
      block.scales = scratch_.scales + first;
      block.sums = out.sums + first * width;
      block.next = first == 0 ? block.values : nullptr;
      kernel_.scores[type](block);
      for (int64_t i = first; i < first + block.queries; ++i) weigh(i, first_position, out);
      block.next = first == 0 && more ? kv_.keys(kv_head_, first_position + kKvBlock) : nullptr;
      kernel_.sums[type](block);
    }
  }

  // Scores of query `i` become weights relative to the largest score so far; what was summed before is to be scaled.
  void weigh(int64_t i, int64_t block, const Sums& out) const {
    const int64_t at = position(row0_ + i / group_);
    const int64_t begin = std::max<int64_t>(0, first_allowed(at) - block), end = std::min(kKvBlock, at + 1 - block);
    float* scores = scratch_.weights + i * kKvBlock;
    if (begin >= end) {
      std::fill_n(scores, kKvBlock, 0.0f);
      scratch_.scales[i] = 1;
      return;
    }
    if (begin > 0) std::fill(scores, scores + begin, -std::numeric_limits<float>::infinity());
    if (end < kKvBlock) std::fill(scores + end, scores + kKvBlock, -std::numeric_limits<float>::infinity());
    const Float8 largest = max8(max8(load8(scores), load8(scores + 8)), max8(load8(scores + 16), load8(scores + 24)));
    float max = out.max[i];
    for (int lane = 0; lane < 8; ++lane) max = std::max(max, largest[lane]);
    Lanes<kKvBlock / 8> below = Lanes<kKvBlock / 8>::load(scores);
    for (Float8& part : below.v) part -= max;
    exp_lanes(below).store(scores);
    for (int64_t j = 0; j < begin; ++j) scores[j] = 0;
    for (int64_t j = end; j < kKvBlock; ++j) scores[j] = 0;
    Float8 sum = {};
    for (int64_t j = 0; j < kKvBlock; j += 8) sum += load8(scores + j);
    scratch_.scales[i] = exp1(out.max[i] - max);
    out.total[i] = out.total[i] * scratch_.scales[i] + sum8(sum);
    out.max[i] = max;
    if (const float* value_scales = kv_.value_scales(kv_head_, block))
      for (int64_t j = 0; j < kKvBlock; j += 8) store8(scores + j, load8(scores + j) * load8(value_scales + j));
  }

  const AttentionKernel& kernel_;
  const KvLayer& kv_;
  const AttentionRows& rows_;
  int64_t kv_head_, row0_, row1_;
  Scratch scratch_;
  int64_t group_, queries_, head_dim_;
};

int64_t tile_queries(int64_t heads, int64_t kv_heads) { return kTileRows * (heads / kv_heads); }

// Multiply-adds with keys and values, all rows taken for the last one.
int64_t work_of(const AttentionRows& rows, int64_t head_dim) {
  const int64_t seen = rows.first_position + rows.rows;
  return rows.rows * (rows.window > 0 ? std::min(seen, rows.window) : seen) * rows.heads * 2 * head_dim;
}

// Calls body(scratch, item) for every item, on the thread that is free first.
template <typename Body>
void for_items(ThreadPool& pool, int64_t work, int64_t items, std::byte* scratch, int64_t queries, int64_t head_dim,
               Body&& body) {
  std::atomic<int64_t> next{0};
  const auto share = [&](int thread) {
    const Scratch memory = Scratch::at(
        reinterpret_cast<float*>(scratch) + thread * Scratch::floats(queries, head_dim), queries, head_dim);
    for (int64_t i = next.fetch_add(1, std::memory_order_relaxed); i < items;
         i = next.fetch_add(1, std::memory_order_relaxed))
      body(memory, i);
  };
  pool.shares(work) ? pool.run(share) : share(0);
}

// One row: its segments are divided among the threads as well.
void attend_one(ThreadPool& pool, const AttentionKernel& kernel, const KvLayer& kv, const AttentionRows& rows,
                int64_t first_segment, int64_t segments, std::byte* scratch) {
  const int64_t group = rows.heads / kv.kv_heads(), head_dim = kv.head_dim();
  const int64_t queries = tile_queries(rows.heads, kv.kv_heads());
  float* parts = reinterpret_cast<float*>(scratch) + pool.size() * Scratch::floats(queries, head_dim);
  const auto part = [&](int64_t kv_head, int64_t segment) {
    return Sums::at(parts + (kv_head * segments + segment) * Sums::floats(group, head_dim), group, head_dim);
  };
  const auto run = [&](const Scratch& memory, int64_t i) {
    const int64_t kv_head = i % kv.kv_heads(), segment = i / kv.kv_heads();
    Tile(kernel, kv, rows, kv_head, 0, 1, memory).run_segment(first_segment + segment, part(kv_head, segment));
  };
  for_items(pool, work_of(rows, head_dim), kv.kv_heads() * segments, scratch, queries, head_dim, run);
  const Scratch memory = Scratch::at(reinterpret_cast<float*>(scratch), queries, head_dim);
  for (int64_t kv_head = 0; kv_head < kv.kv_heads(); ++kv_head) {
    const Sums whole = Sums::at(memory.whole, group, head_dim);
    whole.clear(group, head_dim);
    for (int64_t segment = 0; segment < segments; ++segment) join(whole, part(kv_head, segment), group, head_dim);
    Tile(kernel, kv, rows, kv_head, 0, 1, memory).write(whole);
  }
}

}  // namespace

uint64_t attention_scratch_bytes(int64_t heads, int64_t kv_heads, int64_t head_dim, int threads) {
  const int64_t per_thread = Scratch::floats(tile_queries(heads, kv_heads), head_dim);
  const int64_t parts = kMostParts * kv_heads * Sums::floats(heads / kv_heads, head_dim);
  return static_cast<uint64_t>(threads * per_thread + parts) * sizeof(float);
}

void attend(const Kernels& kernels, ThreadPool& pool, const KvLayer& kv, const AttentionRows& rows,
            std::byte* scratch) {
  const AttentionKernel& kernel = *kernels.table().attention;
  const int64_t head_dim = kv.head_dim(), queries = tile_queries(rows.heads, kv.kv_heads());
  if (rows.rows == 1) {
    const int64_t first = rows.window > 0 ? std::max<int64_t>(0, rows.first_position - rows.window + 1) : 0;
    const int64_t first_segment = first / kKvSegment, segments = rows.first_position / kKvSegment + 1 - first_segment;
    if (segments <= kMostParts) return attend_one(pool, kernel, kv, rows, first_segment, segments, scratch);
  }
  const int64_t row_tiles = ceil_div(rows.rows, kTileRows);
  const auto run = [&](const Scratch& memory, int64_t i) {
    const int64_t row0 = i / kv.kv_heads() * kTileRows;
    const Tile tile(kernel, kv, rows, i % kv.kv_heads(), row0, std::min(rows.rows, row0 + kTileRows), memory);
    const Sums whole = Sums::at(memory.whole, tile.queries(), head_dim);
    tile.run(Sums::at(memory.part, tile.queries(), head_dim), whole);
    tile.write(whole);
  };
  for_items(pool, work_of(rows, head_dim), row_tiles * kv.kv_heads(), scratch, queries, head_dim, run);
}

}  // namespace nestling
