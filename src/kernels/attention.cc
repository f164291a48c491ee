#include "kernels/attention.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <limits>

#include "base/check.h"
#include "base/checked.h"
#include "kernels/simd.h"
#include "tensor/float_types.h"

namespace nestling {
namespace {

// Query rows of a tile that share one pass over a block of keys and values.
constexpr int64_t kTileRows = 4;

int64_t element_bytes(KvType type) { return type == KvType::kF32 ? 4 : type == KvType::kBF16 ? 2 : 1; }

void widen_bf16(const uint16_t* in, int64_t n, float* out) {
  for (int64_t i = 0; i < n; ++i) out[i] = bf16_to_f32(in[i]);
}

// Online softmax state of the query heads of one kv head for one tile of rows.
struct Tile {
  float* keys;     // [kKvBlock, head_dim]
  float* values;   // [kKvBlock, head_dim]
  float* sums;     // [queries, head_dim]
  float* max;      // [queries]
  float* total;    // [queries]
};

// scores[j] = q . keys[j] for the kKvBlock keys; one eight-lane accumulator each, four keys at a time.
void score_block(const float* q, const float* keys, int64_t head_dim, float* scores) {
  for (int64_t j = 0; j < kKvBlock; j += 4) {
    Float8 sums[4] = {};
    int64_t i = 0;
    for (; i + 8 <= head_dim; i += 8) {
      const Float8 x = load8(q + i);
      for (int64_t k = 0; k < 4; ++k) sums[k] += x * load8(keys + (j + k) * head_dim + i);
    }
    for (int64_t k = 0; k < 4; ++k) {
      float tail = 0;
      for (int64_t r = i; r < head_dim; ++r) tail += q[r] * keys[(j + k) * head_dim + r];
      scores[j + k] = sum8(sums[k]) + tail;
    }
  }
}

// sums = sums * scale + sum_j weights[j] values[j], positions in order.
void accumulate_block(const float* weights, int64_t begin, int64_t end, const float* values, int64_t head_dim,
                      float scale, float* sums) {
  int64_t i = 0;
  for (; i + 32 <= head_dim; i += 32) {
    Float8 acc[4];
    for (int k = 0; k < 4; ++k) acc[k] = load8(sums + i + 8 * k) * scale;
    for (int64_t j = begin; j < end; ++j) {
      const Float8 w = splat8(weights[j]);
      for (int k = 0; k < 4; ++k) acc[k] += w * load8(values + j * head_dim + i + 8 * k);
    }
    for (int k = 0; k < 4; ++k) store8(sums + i + 8 * k, acc[k]);
  }
  for (; i < head_dim; ++i) {
    float acc = sums[i] * scale;
    for (int64_t j = begin; j < end; ++j) acc = std::fma(weights[j], values[j * head_dim + i], acc);
    sums[i] = acc;
  }
}

// Adds positions [begin, end) of the loaded block (indices within the block) to query `index`.
void add_block(const Tile& tile, int64_t index, const float* q, int64_t head_dim, int64_t begin, int64_t end) {
  alignas(32) float scores[kKvBlock];
  score_block(q, tile.keys, head_dim, scores);
  float max = tile.max[index];
  for (int64_t j = begin; j < end; ++j) max = std::max(max, scores[j]);
  // Positions outside [begin, end) get weight zero: exp of -infinity, without computing it.
  for (int64_t j = 0; j < kKvBlock; j += 8) store8(scores + j, exp8(load8(scores + j) - max));
  for (int64_t j = 0; j < begin; ++j) scores[j] = 0;
  for (int64_t j = end; j < kKvBlock; ++j) scores[j] = 0;
  const float scale = tile.total[index] == 0 ? 0.0f : exp1(tile.max[index] - max);
  Float8 sum = {};
  for (int64_t j = 0; j < kKvBlock; j += 8) sum += load8(scores + j);
  tile.total[index] = tile.total[index] * scale + sum8(sum);
  tile.max[index] = max;
  accumulate_block(scores, begin, end, tile.values, head_dim, scale, tile.sums + index * head_dim);
}

// Query rows [row0, row1) of kv head g.
void attend_tile(const KvLayer& kv, const AttentionRows& rows, int64_t g, int64_t row0, int64_t row1,
                 const Tile& tile) {
  const int64_t head_dim = kv.head_dim(), group = rows.heads / kv.kv_heads();
  const int64_t queries = (row1 - row0) * group;
  std::fill_n(tile.max, queries, -std::numeric_limits<float>::infinity());
  std::fill_n(tile.total, queries, 0.0f);
  std::fill_n(tile.sums, queries * head_dim, 0.0f);
  const auto first_allowed = [&](int64_t position) {
    return rows.window > 0 ? std::max<int64_t>(0, position - rows.window + 1) : 0;
  };
  const int64_t last = rows.first_position + row1 - 1;
  int64_t block = first_allowed(rows.first_position + row0) / kKvBlock * kKvBlock;
  for (; block <= last; block += kKvBlock) {
    kv.load_keys(g, block, tile.keys);
    kv.load_values(g, block, tile.values);
    for (int64_t row = row0; row < row1; ++row) {
      const int64_t position = rows.first_position + row;
      const int64_t begin = std::max<int64_t>(0, first_allowed(position) - block);
      const int64_t end = std::min(kKvBlock, position + 1 - block);
      if (begin >= end) continue;
      for (int64_t h = 0; h < group; ++h)
        add_block(tile, (row - row0) * group + h, rows.q + row * rows.stride + (g * group + h) * head_dim, head_dim,
                  begin, end);
    }
  }
  for (int64_t row = row0; row < row1; ++row) {
    for (int64_t h = 0; h < group; ++h) {
      const int64_t index = (row - row0) * group + h;
      float* out = rows.out + row * rows.stride + (g * group + h) * head_dim;
      for (int64_t i = 0; i < head_dim; ++i) out[i] = tile.sums[index * head_dim + i] / tile.total[index];
    }
  }
}

int64_t tile_floats(int64_t heads, int64_t kv_heads, int64_t head_dim) {
  const int64_t queries = kTileRows * (heads / kv_heads);
  return round_up(2 * kKvBlock * head_dim + queries * (head_dim + 2), 16);
}

}  // namespace

std::string_view kv_type_name(KvType type) {
  return type == KvType::kF32 ? "f32" : type == KvType::kBF16 ? "bf16" : "q8";
}

std::optional<KvType> kv_type_from_name(std::string_view name) {
  for (const KvType type : {KvType::kF32, KvType::kBF16, KvType::kQ8})
    if (kv_type_name(type) == name) return type;
  return std::nullopt;
}

uint64_t KvLayer::bytes_needed(KvType type, int64_t kv_heads, int64_t head_dim, int64_t capacity) {
  const auto positions = static_cast<uint64_t>(kv_heads * capacity);
  return 2 * positions * static_cast<uint64_t>(head_dim * element_bytes(type)) +
         (type == KvType::kQ8 ? 2 * positions * sizeof(float) : 0);
}

KvLayer::KvLayer(KvType type, int64_t kv_heads, int64_t head_dim, int64_t capacity, std::span<std::byte> memory)
    : type_(type), kv_heads_(kv_heads), head_dim_(head_dim), capacity_(capacity) {
  NESTLING_CHECK_EQ(capacity % kKvBlock, 0);
  NESTLING_CHECK_GE(memory.size(), bytes_needed(type, kv_heads, head_dim, capacity));
  const int64_t codes = kv_heads * capacity * head_dim * element_bytes(type);
  keys_ = memory.data();
  values_ = keys_ + codes;
  if (type == KvType::kQ8) {
    key_scales_ = reinterpret_cast<float*>(values_ + codes);
    value_scales_ = key_scales_ + kv_heads * capacity;
  }
}

std::vector<std::span<std::byte>> KvLayer::used(int64_t positions) const {
  const int64_t slots = std::min(positions, capacity_), slot_bytes = head_dim_ * element_bytes(type_);
  std::vector<std::span<std::byte>> parts;
  for (int64_t g = 0; g < kv_heads_; ++g) {
    for (std::byte* codes : {keys_, values_})
      parts.emplace_back(codes + g * capacity_ * slot_bytes, static_cast<size_t>(slots * slot_bytes));
    if (type_ != KvType::kQ8) continue;
    for (float* scales : {key_scales_, value_scales_})
      parts.push_back(std::as_writable_bytes(std::span(scales + g * capacity_, static_cast<size_t>(slots))));
  }
  return parts;
}

void KvLayer::store(int64_t position, const float* k, const float* v) {
  const int64_t slot = position % capacity_;
  for (int64_t g = 0; g < kv_heads_; ++g) {
    const int64_t at = g * capacity_ + slot;
    const auto put = [&](const float* x, std::byte* codes, float* scales) {
      codes += at * head_dim_ * element_bytes(type_);
      if (type_ == KvType::kF32) {
        std::memcpy(codes, x, static_cast<size_t>(head_dim_) * sizeof(float));
      } else if (type_ == KvType::kBF16) {
        auto* out = reinterpret_cast<uint16_t*>(codes);
        for (int64_t i = 0; i < head_dim_; ++i) out[i] = f32_to_bf16(x[i]);
      } else {
        float max = 0;
        for (int64_t i = 0; i < head_dim_; ++i) max = std::max(max, std::fabs(x[i]));
        scales[at] = max / 127;
        const float inverse = max > 0 ? 127 / max : 0;
        auto* out = reinterpret_cast<int8_t*>(codes);
        for (int64_t i = 0; i < head_dim_; ++i) out[i] = static_cast<int8_t>(std::nearbyint(x[i] * inverse));
      }
    };
    put(k + g * head_dim_, keys_, key_scales_);
    put(v + g * head_dim_, values_, value_scales_);
  }
}

void KvLayer::load(const std::byte* codes, const float* scales, int64_t kv_head, int64_t first, float* out) const {
  const int64_t at = kv_head * capacity_ + first % capacity_;
  codes += at * head_dim_ * element_bytes(type_);
  const int64_t n = kKvBlock * head_dim_;
  if (type_ == KvType::kF32) {
    std::memcpy(out, codes, static_cast<size_t>(n) * sizeof(float));
  } else if (type_ == KvType::kBF16) {
    widen_bf16(reinterpret_cast<const uint16_t*>(codes), n, out);
  } else {
    const auto* in = reinterpret_cast<const int8_t*>(codes);
    for (int64_t j = 0; j < kKvBlock; ++j)
      for (int64_t i = 0; i < head_dim_; ++i)
        out[j * head_dim_ + i] = static_cast<float>(in[j * head_dim_ + i]) * scales[at + j];
  }
}

void KvLayer::load_keys(int64_t kv_head, int64_t first, float* out) const {
  load(keys_, key_scales_, kv_head, first, out);
}

void KvLayer::load_values(int64_t kv_head, int64_t first, float* out) const {
  load(values_, value_scales_, kv_head, first, out);
}

uint64_t attention_scratch_bytes(int64_t heads, int64_t kv_heads, int64_t head_dim, int threads) {
  return static_cast<uint64_t>(tile_floats(heads, kv_heads, head_dim)) * sizeof(float) * static_cast<uint64_t>(threads);
}

void attend(ThreadPool& pool, const KvLayer& kv, const AttentionRows& rows, std::byte* scratch) {
  const int64_t head_dim = kv.head_dim(), queries = kTileRows * (rows.heads / kv.kv_heads());
  const int64_t row_tiles = ceil_div(rows.rows, kTileRows), tiles = row_tiles * kv.kv_heads();
  std::atomic<int64_t> next{0};
  pool.run([&](int thread) {
    float* memory = reinterpret_cast<float*>(scratch) + thread * tile_floats(rows.heads, kv.kv_heads(), head_dim);
    const Tile tile{.keys = memory,
                    .values = memory + kKvBlock * head_dim,
                    .sums = memory + 2 * kKvBlock * head_dim,
                    .max = memory + 2 * kKvBlock * head_dim + queries * head_dim,
                    .total = memory + 2 * kKvBlock * head_dim + queries * (head_dim + 1)};
    for (int64_t i = next.fetch_add(1); i < tiles; i = next.fetch_add(1)) {
      const int64_t row0 = i / kv.kv_heads() * kTileRows;
      attend_tile(kv, rows, i % kv.kv_heads(), row0, std::min(rows.rows, row0 + kTileRows), tile);
    }
  });
}

}  // namespace nestling
