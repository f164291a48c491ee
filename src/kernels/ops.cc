#include "kernels/ops.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <limits>

#include "kernels/simd.h"

namespace nestling {
namespace {

constexpr int kVectors = 4;  // worked on together

// x / (1 + exp(-gate))
template <int kCount>
Lanes<kCount> gated(Lanes<kCount> x, Lanes<kCount> minus_gate) {
  const Lanes<kCount> e = exp_lanes(minus_gate);
  NESTLING_UNROLL for (int k = 0; k < kCount; ++k) x.v[k] = x.v[k] / (1.0f + e.v[k]);
  return x;
}

// gelu_tanh(x) = x / (1 + exp(-2 u)), u = sqrt(2/pi) (x + 0.044715 x^3), since (1 + tanh u) / 2 = 1 / (1 + exp(-2 u)).
template <int kCount>
Lanes<kCount> gelu(Lanes<kCount> x) {
  Lanes<kCount> u;
  NESTLING_UNROLL for (int k = 0; k < kCount; ++k)
    u.v[k] = x.v[k] * (-1.59576912160573f - 0.0713548162726009f * (x.v[k] * x.v[k]));
  return gated(x, u);
}

template <int kCount>
Lanes<kCount> negated(Lanes<kCount> x) {
  NESTLING_UNROLL for (int k = 0; k < kCount; ++k) x.v[k] = -x.v[k];
  return x;
}

// y[i] = function(x[i], ...) for n floats of one or more inputs; the tail runs through lanes too, so that every float
// sees the same arithmetic wherever it lies.
template <typename Function, typename... Inputs>
void map_lanes(float* y, int64_t n, Function function, const Inputs*... x) {
  int64_t i = 0;
  for (; i + 8 * kVectors <= n; i += 8 * kVectors) function(Lanes<kVectors>::load(x + i)...).store(y + i);
  for (; i + 8 <= n; i += 8) function(Lanes<1>::load(x + i)...).store(y + i);
  if (i == n) return;
  const auto load_tail = [&](const float* from) {
    float tail[8] = {};
    std::copy(from + i, from + n, tail);
    return Lanes<1>::load(tail);
  };
  float tail[8];
  function(load_tail(x)...).store(tail);
  std::copy_n(tail, n - i, y + i);
}

float inverse_rms(const float* x, float eps, int64_t n) {
  return 1.0f / std::sqrt(sum_of_squares(x, n) / static_cast<float>(n) + eps);
}

float largest(const float* x, int64_t n) {
  Float8 most[4] = {};
  for (Float8& part : most) part = splat8(x[0]);
  int64_t i = 0;
  for (; i + 32 <= n; i += 32)
    for (int k = 0; k < 4; ++k) most[k] = max8(most[k], load8(x + i + 8 * k));
  const Float8 all = max8(max8(most[0], most[1]), max8(most[2], most[3]));
  float result = all[0];
  for (int lane = 1; lane < 8; ++lane) result = std::max(result, all[lane]);
  for (; i < n; ++i) result = std::max(result, x[i]);
  return result;
}

}  // namespace

float dot(const float* a, const float* b, int64_t n) {
  Float8 sums[4] = {};
  int64_t i = 0;
  for (; i + 32 <= n; i += 32)
    for (int k = 0; k < 4; ++k) sums[k] += load8(a + i + 8 * k) * load8(b + i + 8 * k);
  float tail = 0;
  for (; i < n; ++i) tail += a[i] * b[i];
  return sum8((sums[0] + sums[1]) + (sums[2] + sums[3])) + tail;
}

float sum_of_squares(const float* x, int64_t n) { return dot(x, x, n); }

void rms_norm(const float* x, const float* weight, float eps, int64_t n, float* y) {
  const float scale = inverse_rms(x, eps, n);
  if (weight == nullptr) {
    for (int64_t i = 0; i < n; ++i) y[i] = x[i] * scale;
    return;
  }
  for (int64_t i = 0; i < n; ++i) y[i] = x[i] * scale * weight[i];
}

void add_rms_norm(const float* base, const float* x, const float* weight, float eps, int64_t n, float* y) {
  const float scale = inverse_rms(x, eps, n);
  for (int64_t i = 0; i < n; ++i) y[i] = base[i] + x[i] * scale * weight[i];
}

void gelu_tanh(float* x, int64_t n) {
  map_lanes(x, n, [](auto v) { return gelu(v); }, x);
}

void gelu_tanh_mul(float* gate, const float* up, int64_t n) {
  gelu_tanh(gate, n);
  for (int64_t i = 0; i < n; ++i) gate[i] *= up[i];
}

void rms_norm_gelu(const float* x, const float* weight, float eps, int64_t n, float* y) {
  const float scale = inverse_rms(x, eps, n);
  const auto scaled = [=](auto v) {
    for (Float8& part : v.v) part *= scale;
    return v;
  };
  if (weight == nullptr) {
    map_lanes(y, n, [=](auto v) { return gelu(scaled(v)); }, x);
    return;
  }
  const auto weighted = [=](auto v, const auto& w) {
    v = scaled(v);
    for (size_t k = 0; k < std::size(v.v); ++k) v.v[k] *= w.v[k];
    return gelu(v);
  };
  map_lanes(y, n, weighted, x, weight);
}

void silu(float* x, int64_t n) {
  map_lanes(x, n, [](auto v) { return gated(v, negated(v)); }, x);
}

void glu(const float* x, int64_t n, float* y) {
  map_lanes(y, n, [](auto v, auto gate) { return gated(v, negated(gate)); }, x, x + n);
}

void softmax(float* x, int64_t n) {
  constexpr int64_t kStep = 8 * kVectors;
  constexpr float kLowest = -std::numeric_limits<float>::infinity();
  const float peak = largest(x, n);
  Lanes<kVectors> sums = {};
  const auto step = [&](float* values) {
    Lanes<kVectors> below = Lanes<kVectors>::load(values);
    for (Float8& part : below.v) part -= peak;
    Lanes<kVectors> e = exp_lanes(below);
    NESTLING_UNROLL for (int k = 0; k < kVectors; ++k) {
      e.v[k] = below.v[k] < splat8(-87.0f) ? Float8{} : e.v[k];
      sums.v[k] += e.v[k];
    }
    e.store(values);
  };
  int64_t i = 0;
  for (; i + kStep <= n; i += kStep) step(x + i);
  if (i < n) {
    float tail[kStep];
    std::fill_n(tail, kStep, kLowest);
    std::copy(x + i, x + n, tail);
    step(tail);
    std::copy_n(tail, n - i, x + i);
  }
  const float inverse = 1.0f / sum8((sums.v[0] + sums.v[1]) + (sums.v[2] + sums.v[3]));
  for (int64_t j = 0; j < n; ++j) x[j] *= inverse;
}

void multiply_add(float* y, const float* a, const float* b, int64_t n) {
  for (int64_t i = 0; i < n; ++i) y[i] = std::fma(a[i], b[i], y[i]);
}

void multiply_add_rows(float* y, const float* const* a, const float* const* b, int64_t rows, int64_t n) {
  constexpr int kSums = 8;  // vectors that stay in registers
  int64_t first = 0;
  for (; first + 8 * kSums <= n; first += 8 * kSums) {
    Lanes<kSums> sums = Lanes<kSums>::load(y + first);
    for (int64_t r = 0; r < rows; ++r)
      NESTLING_UNROLL for (int k = 0; k < kSums; ++k)  // one fused multiply-add, which both compilers make of it
        sums.v[k] = load8(a[r] + first + 8 * k) * load8(b[r] + first + 8 * k) + sums.v[k];
    sums.store(y + first);
  }
  for (int64_t r = 0; r < rows; ++r) multiply_add(y + first, a[r] + first, b[r] + first, n - first);
}

void softcap(float* x, int64_t n, float cap) {
  const float inverse = 2.0f / cap;
  // cap * tanh(v) = cap - 2 cap / (1 + exp(2 v))
  const auto capped = [=](auto v) {
    for (Float8& part : v.v) part *= inverse;
    v = exp_lanes(v);
    for (Float8& part : v.v) part = cap - (2 * cap) / (1.0f + part);
    return v;
  };
  map_lanes(x, n, capped, x);
}

Moments moments(const float* x, int64_t n) {
  double sums[8] = {};
  for (int64_t i = 0; i < n; ++i) sums[i & 7] += x[i];
  double sum = 0;
  for (double s : sums) sum += s;
  const double mean = sum / static_cast<double>(n);
  double squares[8] = {};
  for (int64_t i = 0; i < n; ++i) squares[i & 7] += (x[i] - mean) * (x[i] - mean);
  double square = 0;
  for (double s : squares) square += s;
  return {static_cast<float>(mean), static_cast<float>(std::sqrt(square / static_cast<double>(n)))};
}

void rotate(float* x, const float* cos, const float* sin, int64_t head_dim) {
  const int64_t half = head_dim / 2;
  for (int64_t i = 0; i < half; ++i) {
    const float a = x[i], b = x[i + half];
    x[i] = a * cos[i] - b * sin[i];
    x[i + half] = b * cos[i] + a * sin[i];
  }
}

float normal_quantile(double p) {
  // sqrt(2) * erfinv(2 p - 1), erfinv by Newton's method on erf.
  const double y = 2 * static_cast<double>(static_cast<float>(p)) - 1;
  double x = 0;
  for (int i = 0; i < 60; ++i) x -= (std::erf(x) - y) / (2 / std::sqrt(M_PI) * std::exp(-x * x));
  return static_cast<float>(x * std::sqrt(2.0));
}

}  // namespace nestling
