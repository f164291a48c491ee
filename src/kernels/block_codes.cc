#include "kernels/block_codes.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <span>

#include "tensor/float_types.h"
#include "tensor/layout.h"

namespace nestling {
namespace {

constexpr int kWide = 8;  // sums run in this many lanes, so that the compiler may use vectors without reordering
constexpr float kLargestHalf = 65504.0f;

struct Range {
  float low, high;
};

float sum_lanes(const float* lanes) {
  return ((lanes[0] + lanes[4]) + (lanes[2] + lanes[6])) + ((lanes[1] + lanes[5]) + (lanes[3] + lanes[7]));
}

float clamped_code(float scaled, Range range) {
  const float q = std::nearbyint(scaled);
  const float raised = q < range.low ? range.low : q;
  return raised > range.high ? range.high : raised;
}

struct Fit {
  float scale = 0;  // rounded to f16
  float gain = 0;   // squared error saved against all codes zero
};

// The least-squares scale for the codes that `inverse` gives, and what it gains after rounding.
Fit fit_scale(const float* x, float inverse, Range range) {
  alignas(32) float xq[kWide] = {};
  alignas(32) float qq[kWide] = {};
  for (int i = 0; i < kQuantBlock; i += kWide)
    for (int l = 0; l < kWide; ++l) {
      const float q = clamped_code(x[i + l] * inverse, range);
      xq[l] += x[i + l] * q;
      qq[l] += q * q;
    }
  const float sum_xq = sum_lanes(xq), sum_qq = sum_lanes(qq);
  if (sum_qq == 0) return {};
  const float scale = f16_to_f32(f32_to_f16(std::clamp(sum_xq / sum_qq, -kLargestHalf, kLargestHalf)));
  return {scale, scale * (2 * sum_xq - scale * sum_qq)};
}

// The largest magnitude is tried as each of these codes. Whole codes come first: a block that was coded before (Q4_0)
// is found again exactly, and a later candidate must be better than the best by more than rounding.
constexpr float kQ4Trials[] = {-8,    -7,    -6,    -5,    -4,    -3,    -2,    -1,    7,     6,     5,     4,
                               3,     -8.75, -8.5,  -8.25, -7.75, -7.5,  -7.25, -6.75, -6.5,  -6.25, 8,     7.75,
                               7.5,   7.25,  6.75,  6.5,   6.25,  5.75,  5.5};
constexpr float kQ6Trials[] = {-32,   -31,   31,    30,    -33.5, -33, -32.75, -32.5, -32.25, -31.75,
                               -31.5, -30.5, -30,   32.5,  32,    31.75, 31.5, 31.25, 30.5,   29.5};

// Selections, not a branch: clang 19 at -O3 makes a loop of `if (fabs(x[i]) > fabs(peak)) peak = x[i]` that can miss x[0].
float signed_peak(const float* x) {
  float peak = 0, largest = 0;
  for (int i = 0; i < kQuantBlock; ++i) {
    const float magnitude = std::fabs(x[i]);
    peak = magnitude > largest ? x[i] : peak;
    largest = magnitude > largest ? magnitude : largest;
  }
  return peak;
}

float best_scale(const float* x, float peak, std::span<const float> trials, Range range) {
  constexpr float kBetter = 1.0f + 1e-6f;
  Fit best;
  for (const float trial : trials) {
    const Fit fit = fit_scale(x, trial / peak, range);
    if (fit.gain > best.gain * kBetter) best = fit;
  }
  if (best.scale == 0) return 0;
  const Fit refined = fit_scale(x, 1.0f / best.scale, range);
  return refined.gain > best.gain * kBetter ? refined.scale : best.scale;
}

}  // namespace

BlockCodes encode_block(WeightType type, const float* x, int64_t count) {
  alignas(32) float block[kQuantBlock] = {};
  std::memcpy(block, x, count * sizeof(float));
  BlockCodes out;
  const float peak = signed_peak(block);
  if (std::fabs(peak) < 1e-30f) return out;

  Range range{-127, 127};
  float scale = 0;
  if (type == WeightType::kQ8) {
    scale = f16_to_f32(f32_to_f16(std::min(std::fabs(peak) / 127.0f, kLargestHalf)));
  } else {
    range = type == WeightType::kQ4 ? Range{-8, 7} : Range{-32, 31};
    const std::span<const float> trials = type == WeightType::kQ4 ? std::span<const float>(kQ4Trials) : kQ6Trials;
    scale = best_scale(block, peak, trials, range);
  }
  if (scale == 0) return out;
  out.scale = f32_to_f16(scale);
  const float inverse = 1.0f / scale;
  for (int i = 0; i < kQuantBlock; ++i) out.codes[i] = static_cast<int8_t>(clamped_code(block[i] * inverse, range));
  return out;
}

void store_cell_codes(WeightType type, std::byte* cell, int64_t lane, int64_t line_bytes, const int8_t* codes) {
  auto* line = reinterpret_cast<uint8_t*>(cell) + 4 * lane;
  if (type == WeightType::kQ8) {
    for (int j = 0; j < 8; ++j, line += line_bytes) std::memcpy(line, codes + 4 * j, 4);
    return;
  }
  uint8_t u[kQuantBlock];
  for (int i = 0; i < kQuantBlock; ++i) u[i] = static_cast<uint8_t>(codes[i] + code_offset(type));
  for (int j = 0; j < 4; ++j, line += line_bytes) {
    for (int i = 0; i < 4; ++i) line[i] = static_cast<uint8_t>((u[8 * j + i] & 15) | (u[8 * j + 4 + i] << 4));
    if (type == WeightType::kQ4 || j % 2 == 0) continue;
    line += line_bytes;
    const uint8_t* half = u + 8 * (j - 1);
    for (int i = 0; i < 4; ++i)
      line[i] = static_cast<uint8_t>((half[i] >> 4) | (half[4 + i] >> 4 << 2) | (half[8 + i] >> 4 << 4) |
                                     (half[12 + i] >> 4 << 6));
  }
}

void load_cell_codes(WeightType type, const std::byte* cell, int64_t lane, int64_t line_bytes, int8_t* codes) {
  const auto* line = reinterpret_cast<const uint8_t*>(cell) + 4 * lane;
  if (type == WeightType::kQ8) {
    for (int j = 0; j < 8; ++j, line += line_bytes) std::memcpy(codes + 4 * j, line, 4);
    return;
  }
  uint8_t u[kQuantBlock];
  for (int j = 0; j < 4; ++j, line += line_bytes) {
    for (int i = 0; i < 4; ++i) {
      u[8 * j + i] = line[i] & 15;
      u[8 * j + 4 + i] = line[i] >> 4;
    }
    if (type == WeightType::kQ4 || j % 2 == 0) continue;
    line += line_bytes;
    for (int g = 0; g < 4; ++g)
      for (int i = 0; i < 4; ++i) u[8 * (j - 1) + 4 * g + i] |= ((line[i] >> (2 * g)) & 3) << 4;
  }
  for (int i = 0; i < kQuantBlock; ++i) codes[i] = static_cast<int8_t>(u[i] - code_offset(type));
}

void store_row_codes(WeightType type, std::byte* out, const int8_t* codes) {
  auto* bytes = reinterpret_cast<uint8_t*>(out);
  if (type == WeightType::kQ8) {
    std::memcpy(bytes, codes, kQuantBlock);
    return;
  }
  uint8_t u[kQuantBlock];
  for (int i = 0; i < kQuantBlock; ++i) u[i] = static_cast<uint8_t>(codes[i] + code_offset(type));
  for (int i = 0; i < 16; ++i) bytes[i] = static_cast<uint8_t>((u[i] & 15) | (u[16 + i] << 4));
  if (type == WeightType::kQ4) return;
  for (int i = 0; i < 8; ++i)
    bytes[16 + i] = static_cast<uint8_t>((u[i] >> 4) | (u[8 + i] >> 4 << 2) | (u[16 + i] >> 4 << 4) |
                                         (u[24 + i] >> 4 << 6));
}

void load_row_codes(WeightType type, const std::byte* in, int8_t* codes) {
  const auto* bytes = reinterpret_cast<const uint8_t*>(in);
  if (type == WeightType::kQ8) {
    std::memcpy(codes, bytes, kQuantBlock);
    return;
  }
  uint8_t u[kQuantBlock];
  for (int i = 0; i < 16; ++i) {
    u[i] = bytes[i] & 15;
    u[16 + i] = bytes[i] >> 4;
  }
  if (type == WeightType::kQ6)
    for (int g = 0; g < 4; ++g)
      for (int i = 0; i < 8; ++i) u[8 * g + i] |= ((bytes[16 + i] >> (2 * g)) & 3) << 4;
  for (int i = 0; i < kQuantBlock; ++i) codes[i] = static_cast<int8_t>(u[i] - code_offset(type));
}

void store_input_major_code(WeightType type, std::byte* input_codes, int64_t output, int8_t code) {
  const int64_t o = output % kInputMajorWidth;
  auto* bytes = reinterpret_cast<uint8_t*>(input_codes) + output / kInputMajorWidth * 2 * code_bytes(type);
  if (type == WeightType::kQ8) {
    bytes[o] = static_cast<uint8_t>(code);
    return;
  }
  const int u = code + code_offset(type);
  const int nibble = o < 32 ? 0 : 4;
  bytes[o % 32] = static_cast<uint8_t>((bytes[o % 32] & (0xf0 >> nibble)) | ((u & 15) << nibble));
  if (type == WeightType::kQ4) return;
  const int shift = static_cast<int>(2 * (o / 16));
  uint8_t& high = bytes[32 + o % 16];
  high = static_cast<uint8_t>((high & ~(3 << shift)) | (u >> 4 << shift));
}

void load_input_major_codes(WeightType type, const std::byte* input_codes, int64_t output, int8_t* codes) {
  const auto* bytes = reinterpret_cast<const uint8_t*>(input_codes) + output / kInputMajorWidth * 2 * code_bytes(type);
  if (type == WeightType::kQ8) {
    std::memcpy(codes, bytes, kInputMajorWidth);
    return;
  }
  uint8_t u[kInputMajorWidth];
  for (int i = 0; i < 32; ++i) {
    u[i] = bytes[i] & 15;
    u[32 + i] = bytes[i] >> 4;
  }
  if (type == WeightType::kQ6)
    for (int g = 0; g < 4; ++g)
      for (int i = 0; i < 16; ++i) u[16 * g + i] |= ((bytes[32 + i] >> (2 * g)) & 3) << 4;
  for (int i = 0; i < kInputMajorWidth; ++i) codes[i] = static_cast<int8_t>(u[i] - code_offset(type));
}

}  // namespace nestling
