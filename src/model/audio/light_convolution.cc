#include "model/audio/light_convolution.h"

#include <algorithm>

#include "base/checked.h"
#include "kernels/ops.h"

namespace nestling {
namespace {

// out [D] = sum over the taps of kernel[k] times the frame at distance taps - 1 - k; `frames`: the oldest of them.
void depthwise(const float* frames, const float* kernel, int64_t taps, int64_t width, float* out) {
  std::fill_n(out, width, 0.0f);
  for (int64_t k = 0; k < taps; ++k)
    for (int64_t c = 0; c < width; ++c) out[c] += kernel[k * width + c] * frames[k * width + c];
}

// Moves the kept rows to the front.
void keep_rows(AudioStep& step) {
  const int64_t D = step.config.hidden_size;
  const int64_t kept = ceil_div(std::max<int64_t>(step.rows - step.first_kept, 0), step.keep_every);
  for (int64_t i = 0; i < kept; ++i) {
    const int64_t t = step.first_kept + i * step.keep_every;
    if (t != i) std::copy_n(step.workspace.x + t * D, D, step.workspace.x + i * D);
  }
  step.rows = kept;
}

}  // namespace

void light_convolution(AudioStep& step) {
  AudioWorkspace& ws = step.workspace;
  const ConformerWeights& w = *step.weights;
  const int64_t D = step.config.hidden_size, taps = step.config.conv_kernel_size, tail = taps - 1;
  const float eps = step.config.rms_norm_eps;
  step.for_rows([&](int64_t t) { rms_norm(ws.x + t * D, w.convolution_norm, eps, D, ws.normed + t * D); });
  step.multiply(ws.normed, {{w.linear_start, ws.halves}});
  std::copy_n(step.state.gated, tail * D, ws.gated);
  step.for_rows([&](int64_t t) {
    const float* halves = ws.halves + t * 2 * D;
    glu(halves, D, ws.gated + (tail + t) * D);
  });
  std::copy_n(ws.gated + step.rows * D, tail * D, step.state.gated);
  keep_rows(step);
  step.for_rows([&](int64_t t) {
    float* row = ws.normed + t * D;
    depthwise(ws.gated + (step.first_kept + t * step.keep_every) * D, w.depthwise, taps, D, row);
    rms_norm(row, w.depthwise_norm, eps, D, row);
    silu(row, D);
  });
  step.multiply(ws.normed, {{w.linear_end, ws.branch}});
  step.for_rows([&](int64_t t) {
    for (int64_t i = 0; i < D; ++i) ws.x[t * D + i] += ws.branch[t * D + i];
  });
}

}  // namespace nestling
