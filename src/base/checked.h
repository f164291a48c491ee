// 64-bit arithmetic on numbers from outside: every overflow is seen before memory is asked for.
#pragma once

#include <cstdint>
#include <optional>

namespace nestling {

inline std::optional<uint64_t> checked_add(uint64_t a, uint64_t b) {
  uint64_t r;
  if (__builtin_add_overflow(a, b, &r)) return std::nullopt;
  return r;
}

inline std::optional<uint64_t> checked_mul(uint64_t a, uint64_t b) {
  uint64_t r;
  if (__builtin_mul_overflow(a, b, &r)) return std::nullopt;
  return r;
}

inline std::optional<uint64_t> checked_round_up(uint64_t value, uint64_t multiple) {
  const auto sum = checked_add(value, multiple - 1);
  if (!sum) return std::nullopt;
  return *sum / multiple * multiple;
}

constexpr int64_t round_up(int64_t value, int64_t multiple) { return (value + multiple - 1) / multiple * multiple; }
constexpr int64_t ceil_div(int64_t value, int64_t divisor) { return (value + divisor - 1) / divisor; }

}  // namespace nestling
