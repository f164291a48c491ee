// How keys and values are kept: attention_kernel.h says in which order.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "base/check.h"
#include "kernels/attention.h"
#include "kernels/attention_kernel.h"
#include "tensor/float_types.h"

namespace nestling {
namespace {

constexpr int64_t element_bytes(KvType type) { return 4 / elements_per_word(type); }

constexpr int64_t kSpan = 64;  // dimensions encoded at a time: whole lines of every type

// `n` values as they are stored, each in the low bits of a word, zeros behind; q8: codes of x * inverse.
template <KvType kType>
void encode(const float* x, int64_t n, float inverse, uint32_t (&bits)[kSpan]) {
  for (int64_t i = 0; i < kSpan; ++i) {
    const float value = i < n ? x[i] : 0.0f;
    if constexpr (kType == KvType::kF32)
      bits[i] = std::bit_cast<uint32_t>(value);
    else if constexpr (kType == KvType::kBF16)
      bits[i] = f32_to_bf16(value);
    else
      bits[i] = static_cast<uint8_t>(static_cast<int8_t>(std::nearbyint(value * inverse)));
  }
}

// Word `i` of a line, of elements that lie `apart` dimensions from each other.
template <KvType kType>
uint32_t word(const uint32_t* bits, int64_t apart) {
  uint32_t result = 0;
  for (int64_t e = 0; e < elements_per_word(kType); ++e) result |= bits[e * apart] << (8 * element_bytes(kType) * e);
  return result;
}

// Stores one vector of a head: as lane `lane` of a group of keys, or as the row of a value. Returns its scale (q8).
template <KvType kType>
float store_vector(const float* x, int64_t head_dim, bool key, int64_t lane, std::byte* out) {
  constexpr int64_t kElements = elements_per_word(kType);
  float max = 0;
  if constexpr (kType == KvType::kQ8)
    for (int64_t i = 0; i < head_dim; ++i) max = std::max(max, std::fabs(x[i]));
  const float inverse = max > 0 ? 127 / max : 0;
  for (int64_t first = 0; first < head_dim; first += kSpan) {
    const int64_t n = std::min(kSpan, head_dim - first);
    uint32_t bits[kSpan];
    encode<kType>(x + first, n, inverse, bits);
    if (key) {
      std::byte* line = out + first / kElements * kKvLineBytes + lane * 4;
      for (int64_t d = 0; d < n; d += kElements, line += kKvLineBytes) {
        const uint32_t bytes = word<kType>(bits + d, 1);
        std::memcpy(line, &bytes, sizeof(bytes));
      }
    } else {
      std::byte* line = out + first * 4 / kElements;
      for (int64_t d = 0; d < n; d += kKvLanes * kElements, line += kKvLineBytes) {
        uint32_t words[kKvLanes];
        for (int64_t i = 0; i < kKvLanes; ++i) words[i] = word<kType>(bits + d + i, kKvLanes);
        std::memcpy(line, words, sizeof(words));
      }
    }
  }
  return max / 127;
}

float store_vector(KvType type, const float* x, int64_t head_dim, bool key, int64_t lane, std::byte* out) {
  switch (type) {
    case KvType::kF32: return store_vector<KvType::kF32>(x, head_dim, key, lane, out);
    case KvType::kBF16: return store_vector<KvType::kBF16>(x, head_dim, key, lane, out);
    case KvType::kQ8: return store_vector<KvType::kQ8>(x, head_dim, key, lane, out);
  }
  return 0;
}

float decode(KvType type, const std::byte* in, float scale) {
  if (type == KvType::kQ8) return static_cast<float>(static_cast<int8_t>(*in)) * scale;
  if (type == KvType::kBF16) {
    uint16_t bits;
    std::memcpy(&bits, in, sizeof(bits));
    return bf16_to_f32(bits);
  }
  float value;
  std::memcpy(&value, in, sizeof(value));
  return value;
}

// Where dimension `d` of a key lies, from the first byte of its group, for position `lane` of the group.
int64_t key_offset(KvType type, int64_t lane, int64_t d) {
  const int64_t per_word = elements_per_word(type);
  return d / per_word * kKvLineBytes + lane * 4 + d % per_word * element_bytes(type);
}

// Where dimension `d` of a value lies, from the first byte of its position.
int64_t value_offset(KvType type, int64_t d) {
  const int64_t per_line = kKvLanes * elements_per_word(type), in_line = d % per_line;
  return d / per_line * kKvLineBytes + in_line % kKvLanes * 4 + in_line / kKvLanes * element_bytes(type);
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
  const int64_t positions = kv_heads * capacity;
  const int64_t lines = positions / kKvLanes * key_lines(type, head_dim) + positions * value_lines(type, head_dim);
  return static_cast<uint64_t>(lines * kKvLineBytes) +
         (type == KvType::kQ8 ? 2 * static_cast<uint64_t>(positions) * sizeof(float) : 0);
}

KvLayer::KvLayer(KvType type, int64_t kv_heads, int64_t head_dim, int64_t capacity, std::span<std::byte> memory)
    : type_(type), kv_heads_(kv_heads), head_dim_(head_dim), capacity_(capacity) {
  NESTLING_CHECK_EQ(capacity % kKvBlock, 0);
  NESTLING_CHECK_GE(memory.size(), bytes_needed(type, kv_heads, head_dim, capacity));
  keys_ = memory.data();
  values_ = keys_ + key_bytes(kv_heads * capacity);
  if (type == KvType::kQ8) {
    key_scales_ = reinterpret_cast<float*>(values_ + value_bytes(kv_heads * capacity));
    value_scales_ = key_scales_ + kv_heads * capacity;
  }
}

uint64_t KvLayer::key_bytes(int64_t slots) const {
  return static_cast<uint64_t>(ceil_div(slots, kKvLanes) * key_lines(type_, head_dim_) * kKvLineBytes);
}

uint64_t KvLayer::value_bytes(int64_t slots) const {
  return static_cast<uint64_t>(slots * value_lines(type_, head_dim_) * kKvLineBytes);
}

std::vector<std::span<std::byte>> KvLayer::used(int64_t positions) const {
  const int64_t slots = std::min(positions, capacity_);
  std::vector<std::span<std::byte>> parts;
  for (int64_t g = 0; g < kv_heads_; ++g) {
    parts.emplace_back(keys_ + key_bytes(g * capacity_), key_bytes(slots));
    parts.emplace_back(values_ + value_bytes(g * capacity_), value_bytes(slots));
    if (type_ != KvType::kQ8) continue;
    for (float* scales : {key_scales_, value_scales_})
      parts.push_back(std::as_writable_bytes(std::span(scales + g * capacity_, static_cast<size_t>(slots))));
  }
  return parts;
}

void KvLayer::store(int64_t position, const float* k, const float* v) {
  for (int64_t g = 0; g < kv_heads_; ++g) {
    const int64_t at = slot(g, position), lane = at % kKvLanes;
    const float key_scale = store_vector(type_, k + g * head_dim_, head_dim_, true, lane, keys_ + key_bytes(at - lane));
    const float value_scale = store_vector(type_, v + g * head_dim_, head_dim_, false, 0, values_ + value_bytes(at));
    if (type_ != KvType::kQ8) continue;
    key_scales_[at] = key_scale;
    value_scales_[at] = value_scale;
  }
}

const std::byte* KvLayer::keys(int64_t kv_head, int64_t first) const { return keys_ + key_bytes(slot(kv_head, first)); }

const std::byte* KvLayer::values(int64_t kv_head, int64_t first) const {
  return values_ + value_bytes(slot(kv_head, first));
}

const float* KvLayer::key_scales(int64_t kv_head, int64_t first) const {
  return type_ == KvType::kQ8 ? key_scales_ + slot(kv_head, first) : nullptr;
}

const float* KvLayer::value_scales(int64_t kv_head, int64_t first) const {
  return type_ == KvType::kQ8 ? value_scales_ + slot(kv_head, first) : nullptr;
}

void KvLayer::load_keys(int64_t kv_head, int64_t first, float* out) const {
  for (int64_t j = 0; j < kKvBlock; ++j) {
    const std::byte* group = keys(kv_head, first + j / kKvLanes * kKvLanes);
    const float scale = type_ == KvType::kQ8 ? key_scales(kv_head, first)[j] : 1;
    for (int64_t d = 0; d < head_dim_; ++d)
      out[j * head_dim_ + d] = decode(type_, group + key_offset(type_, j % kKvLanes, d), scale);
  }
}

void KvLayer::load_values(int64_t kv_head, int64_t first, float* out) const {
  for (int64_t j = 0; j < kKvBlock; ++j) {
    const std::byte* row = values(kv_head, first + j);
    const float scale = type_ == KvType::kQ8 ? value_scales(kv_head, first)[j] : 1;
    for (int64_t d = 0; d < head_dim_; ++d)
      out[j * head_dim_ + d] = decode(type_, row + value_offset(type_, d), scale);
  }
}

}  // namespace nestling
