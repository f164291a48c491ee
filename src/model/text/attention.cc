#include "model/text/attention.h"

#include <cmath>
#include <vector>

#include "kernels/matmul.h"
#include "kernels/ops.h"

namespace nestling {
namespace {

struct RopeRows {
  float* cos;  // [M, K/2]
  float* sin;
};

RopeRows rope_rows(const Step& step, bool full_attention) {
  const int64_t n = step.workspace.max_rows() * (step.config.head_dim / 2);
  float* base = step.workspace.rope + (full_attention ? 2 * n : 0);
  return {base, base + n};
}

// Per head: RMS norm with `weight` (null for v), then the rotation (not for v).
void norm_heads(const Step& step, float* x, int64_t heads, const float* weight, bool rotated) {
  const int64_t K = step.config.head_dim;
  const RopeRows rope = rope_rows(step, step.full_attention());
  step.for_rows([&](int64_t t) {
    for (int64_t h = 0; h < heads; ++h) {
      float* head = x + (t * heads + h) * K;
      rms_norm(head, weight, step.config.rms_norm_eps, K, head);
      if (rotated) rotate(head, rope.cos + t * (K / 2), rope.sin + t * (K / 2), K);
    }
  });
}

void store_keys_values(const Step& step) {
  Workspace& ws = step.workspace;
  const int64_t G = step.config.num_key_value_heads, K = step.config.head_dim;
  norm_heads(step, ws.k, G, step.weights->k_norm, true);
  norm_heads(step, ws.v, G, nullptr, false);
  step.for_rows([&](int64_t t) { step.kv->store(step.first_position + t, ws.k + t * G * K, ws.v + t * G * K); });
  step.tap("attn.k", {step.rows, G, K}, ws.k, G * K);
  step.tap("attn.v", {step.rows, G, K}, ws.v, G * K);
}

void assign_normed(const Step& step) {
  Workspace& ws = step.workspace;
  ws.activations.assign(step.kernels, step.pool, ws.normed, step.rows, step.config.hidden_size,
                        step.config.hidden_size, is_quantized(step.weights->q_proj.type) ||
                                                     is_quantized(step.weights->laurel_left.type));
}

// The softmax weights themselves, for the tap: attention proper never holds them.
void tap_probabilities(const Step& step) {
  if (step.taps == nullptr || !step.taps->wants(fmt::format("layers.{}.attn.probs", step.tap_layer))) return;
  const int64_t H = step.config.num_attention_heads, G = step.config.num_key_value_heads, K = step.config.head_dim;
  const int64_t T = step.rows, window = step.full_attention() ? T : step.config.sliding_window;
  std::vector<float> probs(static_cast<size_t>(H * T * T)), keys(static_cast<size_t>(kKvBlock * K));
  for (int64_t h = 0; h < H; ++h) {
    for (int64_t t = 0; t < T; ++t) {
      float* p = probs.data() + (h * T + t) * T;
      float max = -INFINITY, sum = 0;
      for (int64_t s = std::max<int64_t>(0, t - window + 1); s <= t; ++s) {
        step.kv->load_keys(h / (H / G), s / kKvBlock * kKvBlock, keys.data());
        p[s] = dot(step.workspace.q + (t * H + h) * K, keys.data() + s % kKvBlock * K, K);
        max = std::max(max, p[s]);
      }
      for (int64_t s = std::max<int64_t>(0, t - window + 1); s <= t; ++s) sum += p[s] = std::exp(p[s] - max);
      for (int64_t s = std::max<int64_t>(0, t - window + 1); s <= t; ++s) p[s] /= sum;
    }
  }
  step.tap("attn.probs", {H, T, T}, probs.data(), T * T);
}

}  // namespace

void compute_rope(const Step& step) {
  const int64_t half = step.config.head_dim / 2;
  for (const bool full : {false, true}) {
    const double theta = full ? step.config.rope_theta : step.config.rope_local_base_freq;
    const RopeRows rope = rope_rows(step, full);
    step.for_rows([&](int64_t t) {
      for (int64_t i = 0; i < half; ++i) {
        // Angles in float32, as transformers computes them.
        const float frequency =
            1.0f / static_cast<float>(std::pow(theta, static_cast<double>(2 * i) / static_cast<double>(2 * half)));
        const double angle = static_cast<float>(step.first_position + t) * frequency;
        rope.cos[t * half + i] = static_cast<float>(std::cos(angle));
        rope.sin[t * half + i] = static_cast<float>(std::sin(angle));
      }
    });
  }
}

void project_attention(const Step& step) {
  Workspace& ws = step.workspace;
  const LayerWeights& w = *step.weights;
  const int64_t H = step.config.num_attention_heads, G = step.config.num_key_value_heads, K = step.config.head_dim;
  assign_normed(step);
  const Product products[] = {{w.q_proj, ws.q, H * K},
                              {w.laurel_left, ws.low_rank, step.config.laurel_rank},
                              {w.k_proj, ws.k, G * K},
                              {w.v_proj, ws.v, G * K}};
  matmul_many(step.kernels, step.pool, ws.activations, {products, step.owns_kv ? 4u : 2u});
  norm_heads(step, ws.q, H, w.q_norm, true);
  step.tap("attn.q", {step.rows, H, K}, ws.q, H * K);
  if (step.owns_kv) store_keys_values(step);
}

void project_keys_values(const Step& step) {
  Workspace& ws = step.workspace;
  const int64_t width = step.config.num_key_value_heads * step.config.head_dim;
  assign_normed(step);
  const Product products[] = {{step.weights->k_proj, ws.k, width}, {step.weights->v_proj, ws.v, width}};
  matmul_many(step.kernels, step.pool, ws.activations, products);
  store_keys_values(step);
}

void attention_output(const Step& step) {
  Workspace& ws = step.workspace;
  const int64_t D = step.config.hidden_size, Q = step.config.num_attention_heads * step.config.head_dim;
  attend(step.kernels, step.pool, *step.kv,
         {.q = ws.q,
          .out = ws.context,
          .stride = Q,
          .rows = step.rows,
          .first_position = step.first_position,
          .heads = step.config.num_attention_heads,
          .window = step.full_attention() ? 0 : step.config.sliding_window},
         ws.attention_scratch);
  tap_probabilities(step);
  step.tap("attn.context", {step.rows, Q}, ws.context, Q);
  ws.activations.assign(step.kernels, step.pool, ws.context, step.rows, Q, Q, is_quantized(step.weights->o_proj.type));
  matmul(step.kernels, step.pool, ws.activations, step.weights->o_proj, ws.branch, D);
  step.tap("attn.out", {step.rows, D}, ws.branch, D);
}

}  // namespace nestling
