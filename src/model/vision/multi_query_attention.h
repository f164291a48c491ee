// Multi-query attention over all pixels: every head has its queries, all share one head of keys and values, which may
// be taken from a map of half the side. No mask, no positions. timm: MobileAttention with MultiQueryAttention2d.
#pragma once

#include "model/vision/depthwise.h"
#include "model/vision/pass.h"

namespace nestling {

struct MultiQueryAttention {
  int64_t head_dim = 0;
  const float* norm = nullptr;   // [channels]
  WeightMatrix query;            // [heads * head_dim, channels]
  Depthwise key_down, value_down;  // stride 2; both empty: keys and values of every pixel
  WeightMatrix key, value;       // [head_dim, channels]
  WeightMatrix output;           // [channels, heads * head_dim]
  const float* scale = nullptr;  // [channels], layer scale

  int64_t heads() const { return query.rows / head_dim; }
  int64_t key_side(int64_t side) const { return key_down.empty() ? side : strided_side(side, key_down.stride); }
  int64_t key_positions(int64_t side) const { return key_side(side) * key_side(side); }
};

uint64_t scratch_bytes(const MultiQueryAttention& block, int64_t side, int64_t tile);
// Bytes that all threads share: keys and values.
uint64_t shared_bytes(const MultiQueryAttention& block, int64_t side);
// In place. `shared`: shared_bytes(block, map.side), 64-byte aligned.
void run_block(const VisionPass& pass, const MultiQueryAttention& block, const FeatureMap& map, std::byte* shared);

}  // namespace nestling
