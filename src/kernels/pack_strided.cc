#include "kernels/pack_strided.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/check.h"
#include "tensor/layout.h"

namespace nestling {
namespace {

constexpr float kSmallestPeak = 1e-30f;  // below it a row is zero: the reciprocal would overflow

// The values of `rows` (at most 16) rows and `cols` columns, transposed to in[column][16].
constexpr int64_t kSpan = 64;
using Span = float[kSpan][kRowGroup];

void load_span(const float* values, int64_t row_stride, int64_t col_stride, int64_t rows, int64_t cols, Span& in) {
  for (int64_t c = 0; c < cols; ++c, values += col_stride) {
    if (row_stride == 1 && rows == kRowGroup) {
      std::memcpy(in[c], values, sizeof(in[c]));
      continue;
    }
    for (int64_t r = 0; r < rows; ++r) in[c][r] = values[r * row_stride];
    for (int64_t r = rows; r < kRowGroup; ++r) in[c][r] = 0;
  }
}

template <typename Body>
void for_spans(int64_t cols, Body&& body) {
  for (int64_t first = 0; first < cols; first += kSpan) body(first, std::min(kSpan, cols - first));
}

// Code: int8_t (i8) or int16_t (i16).
template <typename Code>
struct RowScale {
  static constexpr float kLargest = sizeof(Code) == 1 ? 127.0f : kLargestI16;
  explicit RowScale(float peak)
      : inverse(peak < kSmallestPeak ? 0.0f : kLargest / peak), scale(peak < kSmallestPeak ? 0.0f : peak / kLargest) {}
  float inverse, scale;
};

template <typename Code>
Code code_of(float value, float inverse) {
  return static_cast<Code>(static_cast<int32_t>(std::rint(value * inverse)));
}

// The group from rows whose values lie one after another.
template <typename Code>
void pack_coded_rows(int64_t rows, int64_t cols, const float* values, int64_t row_stride, std::byte* out) {
  constexpr int64_t kPeaks = 16;  // independent maxima, for the compiler to make vectors of
  constexpr int64_t kPerWord = 4 / sizeof(Code);
  const uint64_t bytes = il16_group_bytes(sizeof(Code) == 1 ? WeightType::kI8 : WeightType::kI16, cols);
  std::memset(out, 0, bytes);
  std::byte* scales = out + bytes - kLineBytes;
  for (int64_t r = 0; r < rows; ++r, values += row_stride) {
    float peaks[kPeaks] = {};
    int64_t c = 0;
    for (; c + kPeaks <= cols; c += kPeaks)
      for (int64_t i = 0; i < kPeaks; ++i) peaks[i] = std::max(peaks[i], std::fabs(values[c + i]));
    for (; c < cols; ++c) peaks[0] = std::max(peaks[0], std::fabs(values[c]));
    const RowScale<Code> row(*std::max_element(peaks, peaks + kPeaks));
    std::memcpy(scales + 4 * r, &row.scale, 4);
    for_spans(cols, [&](int64_t first, int64_t count) {
      Code codes[kSpan];
      for (int64_t i = 0; i < count; ++i) codes[i] = code_of<Code>(values[first + i], row.inverse);
      std::fill(codes + count, codes + kSpan, Code{0});
      std::byte* lines = out + first / kPerWord * kLineBytes + 4 * r;
      for (int64_t word = 0; word < ceil_div(count, kPerWord); ++word)
        std::memcpy(lines + word * kLineBytes, codes + kPerWord * word, 4);
    });
  }
}

// The group from values with any strides, best where the rows are one apart.
void pack_i8_columns(int64_t rows, int64_t cols, const float* values, int64_t row_stride, int64_t col_stride,
                     std::byte* out) {
  alignas(64) Span in;
  float peak[kRowGroup] = {}, inverse[kRowGroup], scale[kRowGroup];
  for_spans(cols, [&](int64_t first, int64_t count) {
    load_span(values + first * col_stride, row_stride, col_stride, rows, count, in);
    for (int64_t c = 0; c < count; ++c)
      for (int64_t r = 0; r < kRowGroup; ++r) peak[r] = std::max(peak[r], std::fabs(in[c][r]));
  });
  for (int64_t r = 0; r < kRowGroup; ++r) {
    inverse[r] = RowScale<int8_t>(peak[r]).inverse;
    scale[r] = RowScale<int8_t>(peak[r]).scale;
  }
  for_spans(cols, [&](int64_t first, int64_t count) {
    load_span(values + first * col_stride, row_stride, col_stride, rows, count, in);
    std::memset(in + count, 0, (kSpan - count) * sizeof(in[0]));
    for (int64_t c = 0; c < kSpan; c += 4, out += kLineBytes) {
      uint32_t words[kRowGroup] = {};
      for (int i = 0; i < 4; ++i)
        for (int64_t r = 0; r < kRowGroup; ++r) {
          const auto code = static_cast<uint8_t>(code_of<int8_t>(in[c + i][r], inverse[r]));
          words[r] |= static_cast<uint32_t>(code) << (8 * i);
        }
      std::memcpy(out, words, kLineBytes);
    }
  });
  std::memcpy(out, scale, kLineBytes);
}

void pack_i8_group(int64_t rows, int64_t cols, const float* values, int64_t row_stride, int64_t col_stride,
                   std::byte* out) {
  if (col_stride == 1)
    pack_coded_rows<int8_t>(rows, cols, values, row_stride, out);
  else
    pack_i8_columns(rows, cols, values, row_stride, col_stride, out);
}

void pack_i16_group(int64_t rows, int64_t cols, const float* values, int64_t row_stride, int64_t col_stride,
                    std::byte* out) {
  NESTLING_CHECK_EQ(col_stride, 1);
  pack_coded_rows<int16_t>(rows, cols, values, row_stride, out);
}

void pack_f32_group(int64_t rows, int64_t cols, const float* values, int64_t row_stride, int64_t col_stride,
                    std::byte* out) {
  alignas(64) Span in;
  for_spans(cols, [&](int64_t first, int64_t count) {
    load_span(values + first * col_stride, row_stride, col_stride, rows, count, in);
    std::memcpy(out + first * kLineBytes, in, count * sizeof(in[0]));
  });
}

}  // namespace

void pack_strided(WeightType type, int64_t rows, int64_t cols, const float* values, int64_t row_stride,
                  int64_t col_stride, std::byte* out) {
  NESTLING_CHECK(type == WeightType::kF32 || is_row_coded(type));
  const auto pack = type == WeightType::kI8    ? pack_i8_group
                    : type == WeightType::kI16 ? pack_i16_group
                                               : pack_f32_group;
  for (int64_t row = 0; row < rows; row += kRowGroup, out += il16_group_bytes(type, cols))
    pack(std::min(kRowGroup, rows - row), cols, values + row * row_stride, row_stride, col_stride, out);
}

void unpack_row_coded(const WeightMatrix& w, int64_t row, float* out) {
  const uint64_t group_bytes = il16_group_bytes(w.type, w.stored_cols);
  const std::byte* group = w.data + static_cast<uint64_t>(row / kRowGroup) * group_bytes;
  const int64_t lane = row % kRowGroup;
  float scale;
  std::memcpy(&scale, group + group_bytes - kLineBytes + 4 * lane, 4);
  const int64_t size = row_code_bytes(w.type), per_word = 4 / size;
  for (int64_t c = 0; c < w.cols; ++c) {
    const std::byte* at = group + (c / per_word * kRowGroup + lane) * 4 + c % per_word * size;
    int16_t code = static_cast<int8_t>(*at);
    if (size == 2) std::memcpy(&code, at, 2);
    out[c] = scale * static_cast<float>(code);
  }
}

}  // namespace nestling
