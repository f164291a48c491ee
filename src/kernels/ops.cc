#include "kernels/ops.h"

#include <cmath>

#include "kernels/simd.h"

namespace nestling {
namespace {

// gelu_tanh(x) = x / (1 + exp(-2 u)), u = sqrt(2/pi) (x + 0.044715 x^3), since (1 + tanh u) / 2 = 1 / (1 + exp(-2 u)).
Float8 gelu8(Float8 x) {
  const Float8 u2 = x * (1.59576912160573f + 0.0713548162726009f * (x * x));
  return x / (1.0f + exp8(-u2));
}

// Applies an eight-lane function to n floats; the tail runs through the same lanes, so every element sees the same
// arithmetic wherever it lies.
template <typename Function>
void for_each8(float* x, int64_t n, Function function) {
  int64_t i = 0;
  for (; i + 8 <= n; i += 8) store8(x + i, function(load8(x + i), i));
  if (i == n) return;
  float tail[8] = {};
  for (int64_t j = i; j < n; ++j) tail[j - i] = x[j];
  store8(tail, function(load8(tail), i));
  for (int64_t j = i; j < n; ++j) x[j] = tail[j - i];
}

float inverse_rms(const float* x, float eps, int64_t n) {
  return 1.0f / std::sqrt(sum_of_squares(x, n) / static_cast<float>(n) + eps);
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
  for_each8(x, n, [](Float8 v, int64_t) { return gelu8(v); });
}

void gelu_tanh_mul(float* gate, const float* up, int64_t n) {
  gelu_tanh(gate, n);
  for (int64_t i = 0; i < n; ++i) gate[i] *= up[i];
}

void softcap(float* x, int64_t n, float cap) {
  const float inverse = 2.0f / cap;
  // cap * tanh(v) = cap - 2 cap / (1 + exp(2 v))
  for_each8(x, n, [=](Float8 v, int64_t) { return cap - (2 * cap) / (1.0f + exp8(v * inverse)); });
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
