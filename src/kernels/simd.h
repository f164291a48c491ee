// Eight floats as one value, through the compilers' vector extensions: the baseline (AVX2, two NEON registers) vectorises
// without an instruction-set file. Reductions have one fixed order, so a result never depends on the caller.
#pragma once

#include <cstdint>
#include <cstring>

namespace nestling {

using Float8 = float __attribute__((vector_size(32)));
using Int8x4 = int32_t __attribute__((vector_size(32)));  // eight 32-bit integers

inline Float8 load8(const float* p) {
  Float8 v;
  std::memcpy(&v, p, sizeof(v));
  return v;
}
inline void store8(float* p, Float8 v) { std::memcpy(p, &v, sizeof(v)); }
inline Float8 splat8(float x) { return Float8{x, x, x, x, x, x, x, x}; }

// ((0+4)+(2+6)) + ((1+5)+(3+7))
inline float sum8(Float8 v) {
  return ((v[0] + v[4]) + (v[2] + v[6])) + ((v[1] + v[5]) + (v[3] + v[7]));
}

inline Float8 max8(Float8 a, Float8 b) { return a > b ? a : b; }
inline Float8 min8(Float8 a, Float8 b) { return a < b ? a : b; }

// exp(x) for finite x to about 2 ulp: 2^n * p(r) with r = x - n ln 2, |r| <= ln 2 / 2, p of degree 6 (Cephes' expf).
inline Float8 exp8(Float8 x) {
  x = min8(max8(x, splat8(-87.0f)), splat8(88.0f));
  const Float8 magic = splat8(12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer
  const Float8 n = (x * 1.44269504088896341f + magic) - magic;
  Float8 r = x - n * 0.693359375f;
  r = r - n * -2.12194440e-4f;
  Float8 p = splat8(1.9875691500e-4f);
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + r + 1.0f;
  const Int8x4 exponent = (__builtin_convertvector(n, Int8x4) + 127) << 23;
  Float8 scale;
  std::memcpy(&scale, &exponent, sizeof(scale));
  return p * scale;
}

inline float exp1(float x) { return exp8(splat8(x))[0]; }

}  // namespace nestling
