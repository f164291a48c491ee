// Keys and values of one layer, and softmax attention over them (grouped queries, causal, optionally windowed).
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "base/thread_pool.h"
#include "kernels/kernels.h"

namespace nestling {

enum class KvType : uint8_t { kF32, kBF16, kQ8 };
std::string_view kv_type_name(KvType type);  // "f32", "bf16", "q8"
std::optional<KvType> kv_type_from_name(std::string_view name);

// Attention walks the positions in blocks of this many, aligned to absolute positions, whatever the chunk: so a row's
// result does not depend on how the prompt was cut.
inline constexpr int64_t kKvBlock = 32;

// Positions of a segment: those of one row are added up segment by segment, and the segments joined in order. One row alone
// is divided among threads by them.
inline constexpr int64_t kKvSegment = 512;

// K and V of `capacity` positions of one layer: per kv head, of positions modulo capacity, in the order that kernels read
// (attention_kernel.h). capacity is a multiple of kKvBlock. q8: one float scale per position and head (max|x| / 127).
class KvLayer {
 public:
  static uint64_t bytes_needed(KvType type, int64_t kv_heads, int64_t head_dim, int64_t capacity);
  KvLayer() = default;
  // `memory`: bytes_needed() bytes, 64-byte aligned, kept by the caller.
  KvLayer(KvType type, int64_t kv_heads, int64_t head_dim, int64_t capacity, std::span<std::byte> memory);

  KvType type() const { return type_; }
  int64_t kv_heads() const { return kv_heads_; }
  int64_t head_dim() const { return head_dim_; }
  int64_t capacity() const { return capacity_; }
  // The memory that holds the first min(positions, capacity) slots, piece by piece (keys, values, scales; per head);
  // keys up to the end of their group of 16.
  std::vector<std::span<std::byte>> used(int64_t positions) const;

  // k, v: [kv_heads, head_dim] of one position (K after its norm and rotation, V after its norm).
  void store(int64_t position, const float* k, const float* v);
  // The kKvBlock positions of the block that begins at `first` (a multiple of kKvBlock) as float32 [kKvBlock, head_dim].
  void load_keys(int64_t kv_head, int64_t first, float* out) const;
  void load_values(int64_t kv_head, int64_t first, float* out) const;

  // The same block as it lies in memory, for kernels.
  const std::byte* keys(int64_t kv_head, int64_t first) const;
  const std::byte* values(int64_t kv_head, int64_t first) const;
  const float* key_scales(int64_t kv_head, int64_t first) const;    // null unless q8
  const float* value_scales(int64_t kv_head, int64_t first) const;

 private:
  int64_t slot(int64_t kv_head, int64_t position) const { return kv_head * capacity_ + position % capacity_; }
  uint64_t key_bytes(int64_t slots) const;    // of a number of slots; whole groups of 16
  uint64_t value_bytes(int64_t slots) const;

  KvType type_ = KvType::kF32;
  int64_t kv_heads_ = 0, head_dim_ = 0, capacity_ = 0;
  std::byte* keys_ = nullptr;
  std::byte* values_ = nullptr;
  float* key_scales_ = nullptr;
  float* value_scales_ = nullptr;
};

// out[t] = softmax over the allowed positions s of (q[t] . k[s]) times v[s], for query rows t at positions
// first_position + t. Allowed: s <= position, and s > position - window when window > 0. Scale 1, no softcap (Gemma 3n).
// q, out: [rows, heads * head_dim] with `stride` floats from row to row; query head h reads kv head h / (heads/kv_heads).
struct AttentionRows {
  const float* q = nullptr;
  float* out = nullptr;
  int64_t stride = 0;
  int64_t rows = 0;
  int64_t first_position = 0;
  int64_t heads = 0;
  int64_t window = 0;
};
uint64_t attention_scratch_bytes(int64_t heads, int64_t kv_heads, int64_t head_dim, int threads);
void attend(const Kernels& kernels, ThreadPool& pool, const KvLayer& kv, const AttentionRows& rows, std::byte* scratch);

}  // namespace nestling
