#include "importing/gguf_blocks.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "base/check.h"
#include "tensor/float_types.h"

namespace nestling {
namespace {

constexpr int kBlock = 32;        // Q4_0, Q8_0
constexpr int kSuperblock = 256;  // Q6_K
constexpr int kGroup = 16;        // weights of a Q6_K block that share a scale
constexpr int kGroups = kSuperblock / kGroup;

struct Codes {
  uint16_t scale = 0;  // f16
  std::array<int8_t, kBlock> codes{};
};

// The value of largest magnitude; the first of several. The magnitude is kept beside it because clang 19 passes over
// x[0] (-O2 for AVX2, short loops) where |x[i]| is compared with the magnitude of the value found.
float extreme(const float* x, int count) {
  float found = 0, largest = 0;
  for (int i = 0; i < count; ++i) {
    const float magnitude = std::fabs(x[i]);
    found = magnitude > largest ? x[i] : found;
    largest = magnitude > largest ? magnitude : largest;
  }
  return found;
}

bool codes_of(const float* x, float scale, int low, int high, int8_t* codes) {
  for (int i = 0; i < kBlock; ++i) {
    const float code = std::nearbyint(x[i] / scale);
    if (!(code >= static_cast<float>(low) && code <= static_cast<float>(high)) || code * scale != x[i]) return false;
    codes[i] = static_cast<int8_t>(code);
  }
  return true;
}

// An f16 scale, positive if possible, and codes in low..high whose products are exactly `x`: the extreme value has one
// of few codes, and all are tried. Where several scales do, any gives the same weights.
bool find_exact(const float* x, int low, int high, Codes& out) {
  const float peak = extreme(x, kBlock);
  if (!std::isfinite(peak)) return false;
  if (peak == 0) {
    out = {};
    return std::all_of(x, x + kBlock, [](float value) { return value == 0; });  // not NaN
  }
  for (int magnitude = std::max(-low, high); magnitude > 0; --magnitude)
    for (const int code : {peak < 0 ? -magnitude : magnitude, peak < 0 ? magnitude : -magnitude}) {
      if (code < low || code > high) continue;
      out.scale = f32_to_f16(peak / static_cast<float>(code));
      const float scale = f16_to_f32(out.scale);
      if (scale * static_cast<float>(code) == peak && codes_of(x, scale, low, high, out.codes.data())) return true;
    }
  return false;
}

// f16 scale, then 16 bytes: low nibbles are weights 0 to 15, high nibbles 16 to 31, as code + 8.
bool encode_q4_0(const float* x, std::byte* out) {
  Codes block;
  if (!find_exact(x, -8, 7, block)) return false;
  std::memcpy(out, &block.scale, 2);
  for (int i = 0; i < kBlock / 2; ++i)
    out[2 + i] = static_cast<std::byte>((block.codes[i] + 8) | ((block.codes[kBlock / 2 + i] + 8) << 4));
  return true;
}

// f16 scale, then the signed codes.
bool encode_q8_0(const float* x, std::byte* out) {
  Codes block;
  if (!find_exact(x, -127, 127, block)) return false;
  std::memcpy(out, &block.scale, 2);
  std::memcpy(out + 2, block.codes.data(), kBlock);
  return true;
}

bool encode_bf16(float x, std::byte* out) {
  const uint16_t bits = f32_to_bf16(x);
  std::memcpy(out, &bits, 2);
  return bf16_to_f32(bits) == x;
}

float rounded_code(float value, float low, float high) { return std::clamp(std::nearbyint(value), low, high); }

// Sums of a group coded with `inverse`: x * code and code * code, both weighted with x * x.
struct Fit {
  float products = 0, squares = 0;
};
Fit fit_codes(const float* x, float inverse) {
  Fit fit;
  for (int i = 0; i < kGroup; ++i) {
    const float code = rounded_code(inverse * x[i], -32, 31), weight = x[i] * x[i];
    fit.products += weight * x[i] * code;
    fit.squares += weight * code * code;
  }
  return fit;
}

// The scale of 16 weights: the best of nineteen candidates around extreme / -32, each refined by least squares.
float group_scale(const float* x) {
  constexpr float kNothing = 1e-15f;
  const float peak = extreme(x, kGroup);
  if (std::fabs(peak) < kNothing) return 0;
  const Fit first = fit_codes(x, -32 / peak);
  float scale = first.squares > 0 ? first.products / first.squares : 0;
  float best = scale * first.products;
  for (int step = -9; step <= 9; ++step) {
    if (step == 0) continue;
    const Fit fit = fit_codes(x, -(32 + 0.1f * static_cast<float>(step)) / peak);
    if (fit.squares > 0 && fit.products * fit.products > best * fit.squares) {
      scale = fit.products / fit.squares;
      best = scale * fit.products;
    }
  }
  return scale;
}

// Lower 4 bits [128], upper 2 bits [64], i8 scales [16], f16 scale of those. In each half of 128 weights, byte l of the
// upper bits serves weights l, 32 + l, 64 + l and 96 + l; of the lower bits byte l serves l and 64 + l, byte 32 + l the
// other two.
void store_q6_k(const std::array<uint8_t, kSuperblock>& codes, const std::array<int8_t, kGroups>& scales,
                uint16_t scale, std::byte* out) {
  for (int half = 0; half < 2; ++half)
    for (int l = 0; l < 32; ++l) {
      const uint8_t* c = codes.data() + 128 * half + l;
      out[64 * half + l] = static_cast<std::byte>((c[0] & 15) | ((c[64] & 15) << 4));
      out[64 * half + 32 + l] = static_cast<std::byte>((c[32] & 15) | ((c[96] & 15) << 4));
      out[128 + 32 * half + l] =
          static_cast<std::byte>((c[0] >> 4) | (c[32] >> 4 << 2) | (c[64] >> 4 << 4) | (c[96] >> 4 << 6));
    }
  std::memcpy(out + 192, scales.data(), kGroups);
  std::memcpy(out + 192 + kGroups, &scale, 2);
}

bool encode_q6_k(const float* x, std::byte* out) {
  if (!std::all_of(x, x + kSuperblock, [](float value) { return std::isfinite(value); })) return false;
  std::array<float, kGroups> group_scales;
  for (int g = 0; g < kGroups; ++g) group_scales[g] = group_scale(x + kGroup * g);
  const float largest = extreme(group_scales.data(), kGroups);
  std::array<uint8_t, kSuperblock> codes{};
  std::array<int8_t, kGroups> scales{};
  if (std::fabs(largest) < 1e-15f) {
    std::memset(out, 0, ggml_block_bytes(GgmlType::kQ6_K));
    return true;
  }
  const float inverse = -128 / largest;
  const uint16_t scale = f32_to_f16(1 / inverse);
  codes.fill(32);
  for (int g = 0; g < kGroups; ++g) {
    scales[g] = static_cast<int8_t>(std::min(127.0f, std::nearbyint(inverse * group_scales[g])));
    const float d = f16_to_f32(scale) * static_cast<float>(scales[g]);
    if (d == 0) continue;
    for (int i = 0; i < kGroup; ++i)
      codes[kGroup * g + i] = static_cast<uint8_t>(rounded_code(x[kGroup * g + i] / d, -32, 31) + 32);
  }
  store_q6_k(codes, scales, scale, out);
  return true;
}

bool encode_one(GgmlType type, const float* x, std::byte* out) {
  switch (type) {
    case GgmlType::kF32: std::memcpy(out, x, sizeof(float)); return true;
    case GgmlType::kBF16: return encode_bf16(*x, out);
    case GgmlType::kQ4_0: return encode_q4_0(x, out);
    case GgmlType::kQ8_0: return encode_q8_0(x, out);
    case GgmlType::kQ6_K: return encode_q6_k(x, out);
  }
  return false;
}

}  // namespace

std::string_view ggml_type_name(GgmlType type) {
  switch (type) {
    case GgmlType::kF32: return "F32";
    case GgmlType::kQ4_0: return "Q4_0";
    case GgmlType::kQ8_0: return "Q8_0";
    case GgmlType::kQ6_K: return "Q6_K";
    case GgmlType::kBF16: return "BF16";
  }
  return "";
}

int64_t ggml_block_size(GgmlType type) {
  if (type == GgmlType::kQ6_K) return kSuperblock;
  return type == GgmlType::kQ4_0 || type == GgmlType::kQ8_0 ? kBlock : 1;
}

int64_t ggml_block_bytes(GgmlType type) {
  switch (type) {
    case GgmlType::kF32: return 4;
    case GgmlType::kBF16: return 2;
    case GgmlType::kQ4_0: return 18;
    case GgmlType::kQ8_0: return 34;
    case GgmlType::kQ6_K: return 210;
  }
  return 0;
}

bool encode_ggml(GgmlType type, std::span<const float> values, std::byte* out) {
  const auto block = static_cast<size_t>(ggml_block_size(type));
  NESTLING_CHECK_EQ(values.size() % block, size_t{0});
  for (size_t i = 0; i < values.size(); i += block, out += ggml_block_bytes(type))
    if (!encode_one(type, values.data() + i, out)) return false;
  return true;
}

}  // namespace nestling
