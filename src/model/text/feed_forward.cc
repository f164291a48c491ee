#include "model/text/feed_forward.h"

#include <algorithm>

#include "base/check.h"
#include "kernels/matmul.h"
#include "kernels/ops.h"
#include "kernels/sparse_ffn.h"

namespace nestling {
namespace {

void dense_feed_forward(const Step& step) {
  Workspace& ws = step.workspace;
  const LayerWeights& w = *step.weights;
  const int64_t D = step.config.hidden_size, F = step.ffn_width;
  const Product products[] = {{w.gate_proj.first_rows(F), ws.gate, F}, {w.up_proj.first_rows(F), ws.up, F}};
  matmul_many(step.kernels, step.pool, ws.activations, products);
  step.tap("mlp.gate_after_topk", {step.rows, F}, ws.gate, F);
  ws.activations.assign_produced(step.kernels, step.pool, ws.gate, step.rows, F, F, is_quantized(w.down_proj.type),
                                 [&](int64_t t, int64_t begin, int64_t end) {
                                   gelu_tanh_mul(ws.gate + t * F + begin, ws.up + t * F + begin, end - begin);
                                 });
  matmul(step.kernels, step.pool, ws.activations, w.down_proj.first_cols(F), ws.branch, D);
}

// Gaussian top-k: gate = max(0, gate - (mean + z std)), statistics over the F neurons in use. Counts what is left of row
// t in kept_offsets[t + 1].
void apply_cutoff(const Step& step) {
  const int64_t F = step.ffn_width;
  step.for_rows([&](int64_t t) {
    float* gate = step.workspace.gate + t * F;
    const Moments m = moments(gate, F);
    const float cutoff = m.mean + step.sparsity_z * m.std;
    int32_t kept = 0;
    for (int64_t i = 0; i < F; ++i) {
      gate[i] = std::max(0.0f, gate[i] - cutoff);
      kept += gate[i] != 0;
    }
    NESTLING_CHECK_LE(kept, most_kept_neurons(F, step.sparsity_z));
    step.workspace.kept_offsets[t + 1] = kept;
  });
  step.tap("mlp.gate_after_topk", {step.rows, F}, step.workspace.gate, F);
}

// Lists the neurons whose gate is not zero, row after row, and moves their gates to the front of the row.
SparseSelection select_neurons(const Step& step) {
  Workspace& ws = step.workspace;
  const int64_t F = step.ffn_width;
  ws.kept_offsets[0] = 0;
  for (int64_t t = 0; t < step.rows; ++t) ws.kept_offsets[t + 1] += ws.kept_offsets[t];
  step.for_rows([&](int64_t t) {
    float* gate = ws.gate + t * F;
    int32_t* neurons = ws.kept_neurons + ws.kept_offsets[t];
    const int64_t count = ws.kept_offsets[t + 1] - ws.kept_offsets[t];
    // Every gate is written where the next one that is not zero belongs: no branch depends on values.
    for (int64_t i = 0, kept = 0; kept < count; ++i) {
      const float value = gate[i];
      gate[kept] = value;
      neurons[kept] = static_cast<int32_t>(i);
      kept += value != 0;
    }
  });
  return {.rows = step.rows, .offsets = ws.kept_offsets, .neurons = ws.kept_neurons};
}

void sparse_feed_forward(const Step& step) {
  Workspace& ws = step.workspace;
  const LayerWeights& w = *step.weights;
  const int64_t D = step.config.hidden_size, F = step.ffn_width;
  matmul(step.kernels, step.pool, ws.activations, w.gate_proj.first_rows(F), ws.gate, F);
  apply_cutoff(step);
  const SparseSelection kept = select_neurons(step);
  sparse_up(step.kernels, step.pool, ws.activations, w.up_proj.first_rows(F), kept, ws.up);
  step.for_rows([&](int64_t t) {
    float* gate = ws.gate + t * F;
    float* value = ws.up + kept.offsets[t];
    const int64_t n = kept.offsets[t + 1] - kept.offsets[t];
    gelu_tanh(gate, n);
    for (int64_t i = 0; i < n; ++i) value[i] *= gate[i];
  });
  sparse_down(step.kernels, step.pool, kept, ws.up, w.down_proj.first_cols(F), ws.branch, D, ws.sparse_scratch);
}

}  // namespace

void feed_forward(const Step& step) {
  Workspace& ws = step.workspace;
  const int64_t D = step.config.hidden_size;
  ws.activations.assign(step.kernels, step.pool, ws.normed, step.rows, D, D,
                        is_quantized(step.weights->gate_proj.type));
  if (step.sparsity_z > 0)
    sparse_feed_forward(step);
  else
    dense_feed_forward(step);
  step.tap("mlp.out", {step.rows, D}, ws.branch, D);
}

}  // namespace nestling
