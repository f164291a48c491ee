#include "model/text/decoder_layer.h"

#include <cmath>

#include "kernels/ops.h"
#include "model/text/altup.h"
#include "model/text/attention.h"
#include "model/text/feed_forward.h"
#include "model/text/laurel.h"
#include "model/text/per_layer_input.h"

namespace nestling {
namespace {

// n = rms_norm(A_0)
void normalize_input(const Step& step) {
  Workspace& ws = step.workspace;
  const int64_t D = step.config.hidden_size;
  step.for_rows([&](int64_t t) {
    rms_norm(ws.predicted_stream(0, t), step.weights->input_layernorm, step.config.rms_norm_eps, D, ws.normed + t * D);
  });
  step.tap("input_layernorm", {step.rows, D}, ws.normed, D);
}

// g = (A_0 + rms_norm(attention) + laurel) / sqrt 2, f = rms_norm(g): the residual base is the predicted stream.
void combine_attention_and_laurel(const Step& step) {
  Workspace& ws = step.workspace;
  const LayerWeights& w = *step.weights;
  const int64_t D = step.config.hidden_size;
  const float eps = step.config.rms_norm_eps, scale = 1.0f / std::sqrt(2.0f);
  step.for_rows([&](int64_t t) {
    float* g = ws.attn_laurel + t * D;
    add_rms_norm(ws.predicted_stream(0, t), ws.branch + t * D, w.post_attention_layernorm, eps, D, g);
    const float* laurel = ws.laurel + t * D;
    for (int64_t d = 0; d < D; ++d) g[d] = (g[d] + laurel[d]) * scale;
    rms_norm(g, w.pre_feedforward_layernorm, eps, D, ws.normed + t * D);
  });
  step.tap("attn_laurel", {step.rows, D}, ws.attn_laurel, D);
}

// activated = g + rms_norm(mlp)
void add_feed_forward(const Step& step) {
  Workspace& ws = step.workspace;
  const int64_t D = step.config.hidden_size;
  step.for_rows([&](int64_t t) {
    add_rms_norm(ws.attn_laurel + t * D, ws.branch + t * D, step.weights->post_feedforward_layernorm,
                 step.config.rms_norm_eps, D, ws.activated + t * D);
  });
}

}  // namespace

Status run_decoder_layer(const Step& step, PerLayerInputs& inputs) {
  altup_predict(step);
  normalize_input(step);
  project_attention(step);
  laurel_residual(step);
  attention_output(step);
  combine_attention_and_laurel(step);
  feed_forward(step);
  add_feed_forward(step);
  altup_correct(step);
  NESTLING_TRY_VOID(inputs.arrive(step));
  add_per_layer_input(step);
  step.tap_streams("streams", step.workspace.streams);
  return {};
}

void run_keys_values_only(const Step& step) {
  altup_predict(step);
  normalize_input(step);
  project_keys_values(step);
}

}  // namespace nestling
