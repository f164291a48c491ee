// Decoders of ggml's blocks for the tests of this folder, element by element as the formats are defined.
#pragma once

#include <cstring>
#include <vector>

#include "importing/gguf_blocks.h"
#include "tensor/float_types.h"

namespace nestling {

inline int byte_at(const std::byte* bytes, int64_t i) { return std::to_integer<int>(bytes[i]); }
inline float half_at(const std::byte* bytes) {
  return f16_to_f32(static_cast<uint16_t>(byte_at(bytes, 0) | (byte_at(bytes, 1) << 8)));
}

inline float q4_0_value(const std::byte* b, int64_t i) {
  const int byte = byte_at(b, 2 + i % 16);
  return half_at(b) * static_cast<float>((i < 16 ? byte & 15 : byte >> 4) - 8);
}
inline float q8_0_value(const std::byte* b, int64_t i) {
  return half_at(b) * static_cast<float>(static_cast<int8_t>(byte_at(b, 2 + i)));
}
inline float q6_k_value(const std::byte* b, int64_t i) {
  const int64_t half = i / 128, quarter = i % 128 / 32, l = i % 32;
  const int low = (byte_at(b, 64 * half + 32 * (quarter % 2) + l) >> (4 * (quarter / 2))) & 15;
  const int high = (byte_at(b, 128 + 32 * half + l) >> (2 * quarter)) & 3;
  const auto scale = static_cast<float>(static_cast<int8_t>(byte_at(b, 192 + i / 16)));
  return half_at(b + 208) * scale * static_cast<float>((low | high << 4) - 32);
}

inline float ggml_value(GgmlType type, const std::byte* block, int64_t i) {
  float value = 0;
  switch (type) {
    case GgmlType::kF32: std::memcpy(&value, block, 4); return value;
    case GgmlType::kBF16: return bf16_to_f32(static_cast<uint16_t>(byte_at(block, 0) | (byte_at(block, 1) << 8)));
    case GgmlType::kQ4_0: return q4_0_value(block, i);
    case GgmlType::kQ8_0: return q8_0_value(block, i);
    case GgmlType::kQ6_K: return q6_k_value(block, i);
  }
  return value;
}

inline std::vector<float> decode_ggml(GgmlType type, const std::vector<std::byte>& bytes) {
  const int64_t size = ggml_block_size(type), stride = ggml_block_bytes(type);
  std::vector<float> values;
  for (int64_t block = 0; block * stride < static_cast<int64_t>(bytes.size()); ++block)
    for (int64_t i = 0; i < size; ++i) values.push_back(ggml_value(type, bytes.data() + block * stride, i));
  return values;
}

}  // namespace nestling
