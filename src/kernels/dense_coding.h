// How dense() codes one row of X, the same on every instruction set (the rule is in dense.h). Internal linkage: every
// kernel file compiles it with its own instructions. Private to kernels.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "kernels/kernel_table.h"

namespace nestling {

inline constexpr float kSmallestRange = 1e-30f;  // below it a row is zero: the reciprocal would overflow

// code = round(x * inverse) - zero, x = scale * (code + zero)
struct DenseRowCoding {
  float inverse = 0, scale = 0;
  int32_t zero = 0;
};

// `low` <= 0 <= `high`: the smallest and the largest value of the row, and zero.
static inline DenseRowCoding dense_row_coding(float low, float high) {
  const float range = high - low;
  if (range < kSmallestRange) return {};
  if (!std::isfinite(range)) return {0, range, 0};  // what is not finite stays so in y, and no zero overflows
  const float inverse = 254.0f / range;
  return {inverse, range / 254.0f, static_cast<int32_t>(std::lrintf((low + high) * 0.5f * inverse))};
}

// The middle of the range is rounded to a whole step, so that an end may lie one step beyond the codes.
static inline int8_t dense_code(float x, const DenseRowCoding& row) {
  return static_cast<int8_t>(std::clamp(static_cast<int32_t>(std::lrintf(x * row.inverse)) - row.zero, -128, 127));
}

// The words of a row from input `first` (a multiple of 4) to its end, `step` apart from `codes` on; codes beyond the row
// are zero. Returns the sum of the codes.
static inline int32_t dense_code_tail(const float* x, int64_t first, int64_t cols, const DenseRowCoding& row,
                                      int32_t* codes, int64_t step) {
  int32_t sum = 0;
  for (int64_t word = first / 4; word < dense_words(cols); ++word) {
    int8_t four[4] = {};
    for (int64_t i = 0; i < 4 && 4 * word + i < cols; ++i) sum += four[i] = dense_code(x[4 * word + i], row);
    std::memcpy(codes + word * step, four, sizeof(four));
  }
  return sum;
}

}  // namespace nestling
