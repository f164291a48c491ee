// What an instruction set does for attention: one block of positions against a few query vectors. Private to this folder.
//
// The result is defined here, so that all sets give the same bits:
//   scores   sum over head_dim in order, one fused multiply-add each (q8: codes as floats, then times the key's scale);
//   sums     sums * scale, then positions in order, one fused multiply-add each (q8: the weight times the value's scale).
//
// How K and V lie in memory, in lines of 16 words of 4 bytes; a word holds 1 (f32), 2 (bf16) or 4 (q8) elements:
//   keys     per 16 positions [line][16 positions]: a word has consecutive dimensions of one position;
//   values   per position [line][16 words]: element e of word i of a line is its dimension 16 e + i.
// Dimensions are padded with zeros to whole lines, so that every load is a line and no sum crosses lanes.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/checked.h"
#include "kernels/attention.h"

namespace nestling {

inline constexpr int64_t kKvLanes = 16;      // positions of a group of keys, words of a line
inline constexpr int64_t kKvLineBytes = 64;  // 16 words
inline constexpr int kMostQueries = 8;       // that share one pass over a block

constexpr int64_t elements_per_word(KvType type) { return type == KvType::kF32 ? 1 : type == KvType::kBF16 ? 2 : 4; }
// Lines of a group of keys, for a head of `head_dim`.
constexpr int64_t key_lines(KvType type, int64_t head_dim) { return ceil_div(head_dim, elements_per_word(type)); }
// Lines of the values of one position.
constexpr int64_t value_lines(KvType type, int64_t head_dim) {
  return ceil_div(head_dim, kKvLanes * elements_per_word(type));
}
// Floats that sums of one query take: whole lines of any type.
constexpr int64_t padded_head_dim(int64_t head_dim) { return round_up(head_dim, kKvLanes * 4); }

struct AttentionBlock {
  const std::byte* keys = nullptr;     // two groups of 16 positions
  const std::byte* values = nullptr;   // kKvBlock positions
  const float* key_scales = nullptr;   // [kKvBlock], q8
  int64_t head_dim = 0;
  int queries = 0;                     // 1 to AttentionKernel::queries
  const float* q = nullptr;            // [dimension][queries], zeros behind head_dim
  float* scores = nullptr;             // [queries][kKvBlock]; weights when sums are formed
  const float* scales = nullptr;       // [queries], of the sums so far
  float* sums = nullptr;               // [queries][padded_head_dim]
  // Lines asked for on the way, one for each line of keys (of values): what is needed next. Null: none.
  const std::byte* next = nullptr;
};

struct AttentionKernel {
  int queries = 1;  // at most kMostQueries
  void (*scores[3])(const AttentionBlock&) = {};  // by KvType
  void (*sums[3])(const AttentionBlock&) = {};
};

}  // namespace nestling
