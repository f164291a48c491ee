// Operations on rows of float32 that are not weight products. A row's result depends on that row alone.
#pragma once

#include <cstdint>

namespace nestling {

// Sum of squares in one fixed order (eight lanes, then a tree).
float sum_of_squares(const float* x, int64_t n);
// Dot product, same order.
float dot(const float* a, const float* b, int64_t n);

// y = x / sqrt(mean(x^2) + eps) * w; w may be null (no weight). Gemma 3n: the weight multiplies directly, there is no
// "1 + w" (Gemma3nRMSNorm). y may be x.
void rms_norm(const float* x, const float* weight, float eps, int64_t n, float* y);
// y = base + rms_norm(x)
void add_rms_norm(const float* base, const float* x, const float* weight, float eps, int64_t n, float* y);

// 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))), in place.
void gelu_tanh(float* x, int64_t n);
// gate = gelu_tanh(gate) * up
void gelu_tanh_mul(float* gate, const float* up, int64_t n);
// rms_norm, then gelu_tanh, in one pass: the same bits as one after the other. y may be x.
void rms_norm_gelu(const float* x, const float* weight, float eps, int64_t n, float* y);
// x / (1 + exp(-x)), in place.
void silu(float* x, int64_t n);
// Gated linear unit: y[i] = x[i] / (1 + exp(-x[n + i])); x [2 n], y [n]; y may be x.
void glu(const float* x, int64_t n, float* y);
// x = exp(x - max(x)) / sum(exp(x - max(x))), in place; n >= 1, at least one value finite. Values below the largest by
// more than 87 (masked ones, -infinity too) become exactly 0.
void softmax(float* x, int64_t n);

// y[i] = fma(a[i], b[i], y[i]): a branch added with a scale per channel; one tap of a depthwise convolution.
void multiply_add(float* y, const float* a, const float* b, int64_t n);
// The same for `rows` rows of a and b one after another, with y read and written once: the taps of a depthwise
// convolution over channels.
void multiply_add_rows(float* y, const float* const* a, const float* const* b, int64_t rows, int64_t n);

// x = cap * tanh(x / cap)
void softcap(float* x, int64_t n, float cap);

// Mean and population standard deviation (divide by n), accumulated in double.
struct Moments {
  float mean;
  float std;
};
Moments moments(const float* x, int64_t n);

// Rotary embedding, half-split, of one head: y[i] = x[i] cos - x[i+K/2] sin, y[i+K/2] = x[i+K/2] cos + x[i] sin; in place.
// cos, sin: [head_dim / 2].
void rotate(float* x, const float* cos, const float* sin, int64_t head_dim);

// z such that the standard normal distribution function of z is p (1.64485 for 0.95; p as float32, as transformers
// takes it: torch's own float32 result lies within 2 ulp).
float normal_quantile(double p);

}  // namespace nestling
