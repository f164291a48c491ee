#include "model/audio/attention.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <vector>

#include "kernels/ops.h"
#include "kernels/simd.h"

namespace nestling {
namespace {

// sum of q (k + r), in one fixed order
float dot_sum(const float* q, const float* k, const float* r, int64_t n) {
  Float8 sums[2] = {};
  int64_t i = 0;
  for (; i + 16 <= n; i += 16)
    for (int64_t u = 0; u < 2; ++u)
      sums[u] += load8(q + i + 8 * u) * (load8(k + i + 8 * u) + load8(r + i + 8 * u));
  float tail = 0;
  for (; i < n; ++i) tail += q[i] * (k[i] + r[i]);
  return sum8(sums[0] + sums[1]) + tail;
}

// What a query is multiplied with, [K].
std::vector<float> query_scales(const float* per_dim_scale, int64_t head_dim) {
  const double scale = 1 / (std::sqrt(static_cast<double>(head_dim)) * std::numbers::ln2);
  std::vector<float> scales(static_cast<size_t>(head_dim));
  for (size_t d = 0; d < scales.size(); ++d) {
    const double z = per_dim_scale[d];
    const double softplus = std::max(z, 0.0) + std::log1p(std::exp(-std::fabs(z)));
    scales[d] = static_cast<float>(scale * softplus);
  }
  return scales;
}

// Attention of all heads of row t: workspace.query row t becomes the weighted values.
class RowAttention {
 public:
  explicit RowAttention(const AudioStep& step)
      : step_(step), width_(step.config.hidden_size), heads_(step.config.num_attention_heads),
        head_dim_(width_ / heads_), past_(step.config.context_left - 1),
        scales_(query_scales(step.weights->per_dim_scale, head_dim_)) {}

  // `scratch`: at least context_left.
  void run(int64_t t, float* scratch) const {
    const uint8_t* valid = step_.valid + t;  // of the frames at distances past_, ..., 0
    if (valid[past_] == 0) return;           // its row is cleared afterwards
    for (int64_t h = 0; h < heads_; ++h) {
      float* q = step_.workspace.query + t * width_ + h * head_dim_;
      for (int64_t d = 0; d < head_dim_; ++d) q[d] *= scales_[static_cast<size_t>(d)];
      weigh(t, h, q, valid, scratch);
      sum_values(t, h, valid, scratch, q);
    }
  }

 private:
  // weights[p], p = 0 .. past: softmax over the valid frames at distance p, zero for the others.
  void weigh(int64_t t, int64_t h, const float* q, const uint8_t* valid, float* weights) const {
    const int64_t head = h * head_dim_;
    for (int64_t p = 0; p <= past_; ++p) {
      weights[p] = 0;
      if (valid[past_ - p] != 0)
        weights[p] = dot_sum(q, step_.workspace.keys + (t + past_ - p) * width_ + head,
                             step_.positions + p * width_ + head, head_dim_);
    }
    softcap(weights, past_ + 1, step_.config.logit_cap);
    for (int64_t p = 0; p <= past_; ++p)
      if (valid[past_ - p] == 0) weights[p] = -INFINITY;
    softmax(weights, past_ + 1);
  }

  void sum_values(int64_t t, int64_t h, const uint8_t* valid, const float* weights, float* out) const {
    std::fill_n(out, head_dim_, 0.0f);
    for (int64_t p = 0; p <= past_; ++p) {
      if (valid[past_ - p] == 0) continue;
      const float* v = step_.workspace.values + (t + past_ - p) * width_ + h * head_dim_;
      for (int64_t d = 0; d < head_dim_; ++d) out[d] += weights[p] * v[d];
    }
  }

  const AudioStep& step_;
  int64_t width_, heads_, head_dim_, past_;
  std::vector<float> scales_;
};

}  // namespace

void attention(const AudioStep& step) {
  AudioWorkspace& ws = step.workspace;
  const ConformerWeights& w = *step.weights;
  const int64_t D = step.config.hidden_size, past = step.config.context_left - 1;
  const float eps = step.config.rms_norm_eps;
  step.for_rows([&](int64_t t) { rms_norm(ws.x + t * D, w.pre_attention_norm, eps, D, ws.normed + t * D); });
  std::copy_n(step.state.keys, past * D, ws.keys);
  std::copy_n(step.state.values, past * D, ws.values);
  step.multiply(ws.normed, {{w.q_proj, ws.query}, {w.k_proj, ws.keys + past * D}, {w.v_proj, ws.values + past * D}});
  const RowAttention rows(step);
  step.pool.for_ranges(step.rows, 1, [&](int64_t begin, int64_t end) {
    std::vector<float> scratch(static_cast<size_t>(past + 1));
    for (int64_t t = begin; t < end; ++t) rows.run(t, scratch.data());
  });
  std::copy_n(ws.keys + step.rows * D, past * D, step.state.keys);
  std::copy_n(ws.values + step.rows * D, past * D, step.state.values);
  step.multiply(ws.query, {{w.post, ws.branch}});
  step.for_rows([&](int64_t t) {
    add_rms_norm(ws.x + t * D, ws.branch + t * D, w.post_attention_norm, eps, D, ws.x + t * D);
  });
}

}  // namespace nestling
