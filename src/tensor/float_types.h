// 16-bit floats: bf16 (upper half of a float32) and f16 (IEEE half), converted with round to nearest even.
#pragma once

#include <bit>
#include <cstdint>

namespace nestling {

inline float bf16_to_f32(uint16_t bits) { return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16); }

inline uint16_t f32_to_bf16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<uint16_t>((bits >> 16) | 0x40u);  // NaN stays NaN
  return static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

#if defined(__aarch64__)
using Half = __fp16;  // GCC 12 has no _Float16 in C++ on Arm
#else
using Half = _Float16;
#endif

inline float f16_to_f32(uint16_t bits) { return static_cast<float>(std::bit_cast<Half>(bits)); }
inline uint16_t f32_to_f16(float value) { return std::bit_cast<uint16_t>(static_cast<Half>(value)); }

}  // namespace nestling
