#include "model/text/kv_cache.h"

#include <algorithm>

#include "base/checked.h"

namespace nestling {
namespace {

// Positions of storage of a layer: a ring of the window and one chunk (never more than the context), or the context.
int64_t capacity(const TextConfig& c, const KvCacheOptions& o, int64_t layer) {
  const int64_t context = round_up(o.context, kKvBlock);
  if (c.full_attention[layer]) return context;
  return std::min(context, round_up(c.sliding_window - 1 + o.max_chunk, kKvBlock));
}

}  // namespace

uint64_t KvCache::bytes_used(const TextConfig& c, const KvCacheOptions& o, int64_t positions) {
  uint64_t total = 0;
  for (int64_t l = 0; l < c.first_kv_shared_layer(); ++l)
    total += KvLayer::bytes_needed(o.type, c.num_key_value_heads, c.head_dim,
                                   std::min(capacity(c, o, l), round_up(positions, kKvBlock)));
  return total;
}

uint64_t KvCache::bytes_needed(const TextConfig& c, const KvCacheOptions& o) {
  uint64_t total = 0;
  for (int64_t l = 0; l < c.first_kv_shared_layer(); ++l)
    total += *checked_round_up(
        KvLayer::bytes_needed(o.type, c.num_key_value_heads, c.head_dim, capacity(c, o, l)), 64);
  return total;
}

KvCache::KvCache(const TextConfig& c, const KvCacheOptions& o)
    : options_(o), memory_(bytes_needed(c, o)), window_(c.sliding_window) {
  std::byte* next = memory_.data();
  for (int64_t l = 0; l < c.num_hidden_layers; ++l) {
    producer_.push_back(static_cast<size_t>(c.kv_producer(l)));  // owners come first: their index is their layer
    if (l >= c.first_kv_shared_layer()) continue;
    const uint64_t bytes = KvLayer::bytes_needed(o.type, c.num_key_value_heads, c.head_dim, capacity(c, o, l));
    layers_.emplace_back(o.type, c.num_key_value_heads, c.head_dim, capacity(c, o, l),
                         std::span(next, static_cast<size_t>(bytes)));
    next += *checked_round_up(bytes, 64);
    if (!c.full_attention[l]) ring_capacity_ = capacity(c, o, l);
  }
}

bool KvCache::can_rewind(int64_t written, int64_t to) const {
  return ring_capacity_ == 0 || written <= ring_capacity_ || written - to <= ring_capacity_ - (window_ - 1);
}

}  // namespace nestling
