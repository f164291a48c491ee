#include "model/audio/feed_forward.h"

#include "kernels/ops.h"
#include "model/audio_tensors.h"

namespace nestling {

void feed_forward(const AudioStep& step, const AudioFeedForwardWeights& w) {
  AudioWorkspace& ws = step.workspace;
  const int64_t D = step.config.hidden_size, F = audio_ffn_width(step.config);
  const float eps = step.config.rms_norm_eps, weight = step.config.residual_weight;
  step.for_rows([&](int64_t t) { rms_norm(ws.x + t * D, w.pre_norm, eps, D, ws.normed + t * D); });
  step.multiply(ws.normed, {{w.up, ws.hidden}});
  step.for_rows([&](int64_t t) { silu(ws.hidden + t * F, F); });
  step.multiply(ws.hidden, {{w.down, ws.branch}});
  step.for_rows([&](int64_t t) {
    float* x = ws.x + t * D;
    float* branch = ws.branch + t * D;
    rms_norm(branch, w.post_norm, eps, D, branch);
    for (int64_t i = 0; i < D; ++i) x[i] += weight * branch[i];
  });
}

}  // namespace nestling
