// Eight floats as one value, through the compilers' vector extensions: the baseline (AVX2, two NEON registers) vectorises
// without an instruction-set file. Reductions have one fixed order, so a result never depends on the caller.
#pragma once

#include <cstdint>
#include <cstring>

#include "kernels/unroll.h"

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

// kVectors times eight floats, on which a long chain of operations like exp runs step by step: a processor that looks
// ahead only so far finds the independent work next to each other. Every float sees the same arithmetic for any
// kVectors.
template <int kVectors>
struct Lanes {
  Float8 v[kVectors];
  static Lanes load(const float* p) {
    Lanes out;
    NESTLING_UNROLL for (int k = 0; k < kVectors; ++k) out.v[k] = load8(p + 8 * k);
    return out;
  }
  void store(float* p) const {
    NESTLING_UNROLL for (int k = 0; k < kVectors; ++k) store8(p + 8 * k, v[k]);
  }
};

// exp(x) for finite x to about 2 ulp: 2^n * p(r) with r = x - n ln 2, |r| <= ln 2 / 2, p of degree 6 (Cephes' expf).
template <int kVectors>
inline Lanes<kVectors> exp_lanes(Lanes<kVectors> x) {
  const Float8 magic = splat8(12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer
  constexpr float kCoefficients[] = {1.3981999507e-3f, 8.3334519073e-3f, 4.1665795894e-2f, 1.6666665459e-1f,
                                     5.0000001201e-1f};
  Lanes<kVectors> shifted, n, p, square;
  NESTLING_UNROLL for (int k = 0; k < kVectors; ++k) x.v[k] = min8(max8(x.v[k], splat8(-87.0f)), splat8(88.0f));
  NESTLING_UNROLL for (int k = 0; k < kVectors; ++k) shifted.v[k] = x.v[k] * 1.44269504088896341f + magic;
  NESTLING_UNROLL for (int k = 0; k < kVectors; ++k) n.v[k] = shifted.v[k] - magic;
  NESTLING_UNROLL for (int k = 0; k < kVectors; ++k) x.v[k] = x.v[k] - n.v[k] * 0.693359375f;
  NESTLING_UNROLL for (int k = 0; k < kVectors; ++k) x.v[k] = x.v[k] - n.v[k] * -2.12194440e-4f;
  NESTLING_UNROLL for (int k = 0; k < kVectors; ++k) p.v[k] = splat8(1.9875691500e-4f);
  NESTLING_UNROLL for (int c = 0; c < 5; ++c)
    NESTLING_UNROLL for (int k = 0; k < kVectors; ++k) p.v[k] = p.v[k] * x.v[k] + kCoefficients[c];
  NESTLING_UNROLL for (int k = 0; k < kVectors; ++k) square.v[k] = x.v[k] * x.v[k];
  NESTLING_UNROLL for (int k = 0; k < kVectors; ++k) p.v[k] = p.v[k] * square.v[k] + x.v[k] + 1.0f;
  NESTLING_UNROLL for (int k = 0; k < kVectors; ++k) {
    // The lowest bits of `shifted` are n: added to the exponent, they multiply by 2^n.
    Int8x4 bits, exponent;
    std::memcpy(&bits, &p.v[k], sizeof(bits));
    std::memcpy(&exponent, &shifted.v[k], sizeof(exponent));
    bits += exponent << 23;
    std::memcpy(&p.v[k], &bits, sizeof(bits));
  }
  return p;
}

inline Float8 exp8(Float8 x) { return exp_lanes(Lanes<1>{{x}}).v[0]; }

inline float exp1(float x) { return exp8(splat8(x))[0]; }

}  // namespace nestling
