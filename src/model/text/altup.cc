#include "model/text/altup.h"

#include <algorithm>
#include <cmath>

#include "kernels/matmul.h"
#include "kernels/ops.h"
#include "kernels/simd.h"

namespace nestling {
namespace {

constexpr int64_t kMaxStreams = 8;  // parse_config allows no more

// The floor of a stream's mean square in transformers: keeps a zero stream from dividing by zero.
constexpr float kMeanSquareFloor = 1e-5f;

float mean_square(const float* x, int64_t n) { return sum_of_squares(x, n) / static_cast<float>(n); }

// y *= magnitude / max(rms(y), floor)
void match_magnitude(float* y, int64_t n, float magnitude) {
  const float scale = magnitude / std::sqrt(std::max(mean_square(y, n), kMeanSquareFloor));
  for (int64_t i = 0; i < n; ++i) y[i] *= scale;
}

// modalities[s] = tanh(modality_router[s] . (rms_norm(x) / D)); `normed`: scratch of D floats.
void route(const Step& step, const float* x, float* normed, float* modalities) {
  const int64_t D = step.config.hidden_size;
  const LayerWeights& w = *step.weights;
  rms_norm(x, w.router_norm, step.config.rms_norm_eps, D, normed);
  for (int64_t s = 0; s < step.config.altup_num_inputs; ++s)
    modalities[s] = std::tanh(dot(w.modality_router.data() + s * D, normed, D) / static_cast<float>(D));
}

// predicted[i] = S_i + sum_j c[i][j] S_j, in this order. kStreams: how many there are, 0 if that is known only here.
template <int kStreams>
void mix(const Step& step, int64_t t, const float (&c)[kMaxStreams][kMaxStreams]) {
  const int64_t D = step.config.hidden_size, S = kStreams > 0 ? kStreams : step.config.altup_num_inputs;
  const float* in[kMaxStreams];
  float* out[kMaxStreams];
  for (int64_t i = 0; i < S; ++i) {
    in[i] = step.workspace.stream(i, t);
    out[i] = step.workspace.predicted_stream(i, t);
  }
  int64_t d = 0;
  for (; d + 8 <= D; d += 8) {
    Float8 x[kMaxStreams];
    for (int64_t j = 0; j < S; ++j) x[j] = load8(in[j] + d);
    for (int64_t i = 0; i < S; ++i) {
      Float8 sum = x[i];
      for (int64_t j = 0; j < S; ++j) sum += c[i][j] * x[j];
      store8(out[i] + d, sum);
    }
  }
  for (; d < D; ++d)
    for (int64_t i = 0; i < S; ++i) {
      float sum = in[i][d];
      for (int64_t j = 0; j < S; ++j) sum = std::fma(c[i][j], in[j][d], sum);
      out[i][d] = sum;
    }
}

}  // namespace

void altup_embed(const Step& step, const TextWeights& weights) {
  Workspace& ws = step.workspace;
  const int64_t D = step.config.hidden_size;
  ws.activations.assign(step.kernels, step.pool, ws.stream(0, 0), step.rows, D, D,
                        is_quantized(weights.altup_projections.front().type));
  for (int64_t s = 1; s < step.config.altup_num_inputs; ++s)
    matmul(step.kernels, step.pool, ws.activations, weights.altup_projections[s - 1], ws.stream(s, 0), D);
  step.for_rows([&](int64_t t) {
    const float magnitude = std::sqrt(mean_square(ws.stream(0, t), D));
    for (int64_t s = 1; s < step.config.altup_num_inputs; ++s) match_magnitude(ws.stream(s, t), D, magnitude);
  });
}

void altup_predict(const Step& step) {
  Workspace& ws = step.workspace;
  const int64_t S = step.config.altup_num_inputs;
  const std::vector<float>& coefs = step.weights->prediction_coefs;
  step.for_rows([&](int64_t t) {
    float modalities[kMaxStreams];
    route(step, ws.stream(0, t), ws.predicted_stream(0, t), modalities);
    float c[kMaxStreams][kMaxStreams];  // of input j in output i
    for (int64_t i = 0; i < S; ++i)
      for (int64_t j = 0; j < S; ++j) {
        c[i][j] = 0;
        for (int64_t m = 0; m < S; ++m) c[i][j] += coefs[(i * S + j) * S + m] * modalities[m];
      }
    if (S == 4)
      mix<4>(step, t, c);
    else
      mix<0>(step, t, c);
  });
  step.tap_streams("altup.predict", ws.predicted);
}

void altup_correct(const Step& step) {
  Workspace& ws = step.workspace;
  const int64_t D = step.config.hidden_size, S = step.config.altup_num_inputs;
  const std::vector<float>& coefs = step.weights->correction_coefs;
  step.for_rows([&](int64_t t) {
    float modalities[kMaxStreams];
    const float* activated = ws.activated + t * D;
    route(step, activated, ws.stream(0, t), modalities);
    const float* active = ws.predicted_stream(0, t);
    for (int64_t i = 0; i < S; ++i) {
      float k = 1;
      for (int64_t m = 0; m < S; ++m) k += coefs[i * S + m] * modalities[m];
      const float* in = ws.predicted_stream(i, t);
      float* out = ws.stream(i, t);
      for (int64_t d = 0; d < D; ++d) out[d] = in[d] + k * (activated[d] - active[d]);
    }
  });
  step.tap_streams("altup.correct", ws.streams);
}

void altup_unembed(const Step& step, const TextWeights& weights) {
  Workspace& ws = step.workspace;
  const int64_t D = step.config.hidden_size, S = step.config.altup_num_inputs;
  for (int64_t s = 1; s < S; ++s) {
    ws.activations.assign(step.kernels, step.pool, ws.stream(s, 0), step.rows, D, D,
                          is_quantized(weights.altup_unembed_projections[s - 1].type));
    matmul(step.kernels, step.pool, ws.activations, weights.altup_unembed_projections[s - 1],
           ws.predicted_stream(s, 0), D);
  }
  step.for_rows([&](int64_t t) {
    const float* active = ws.stream(0, t);
    const float magnitude = std::sqrt(mean_square(active, D));
    float* merged = ws.normed + t * D;
    std::copy_n(active, D, merged);
    for (int64_t s = 1; s < S; ++s) {
      match_magnitude(ws.predicted_stream(s, t), D, magnitude);
      for (int64_t d = 0; d < D; ++d) merged[d] += ws.predicted_stream(s, t)[d];
    }
    for (int64_t d = 0; d < D; ++d) merged[d] /= static_cast<float>(S);
  });
}

}  // namespace nestling
