#include "model/text/laurel.h"

#include "kernels/matmul.h"
#include "kernels/ops.h"

namespace nestling {

void laurel_residual(const Step& step) {
  Workspace& ws = step.workspace;
  const int64_t D = step.config.hidden_size, R = step.config.laurel_rank;
  const LayerWeights& w = *step.weights;
  ws.other_activations.assign(step.kernels, step.pool, ws.low_rank, step.rows, R, R,
                              is_quantized(w.laurel_right.type));
  matmul(step.kernels, step.pool, ws.other_activations, w.laurel_right, ws.laurel, D);
  step.for_rows([&](int64_t t) {
    float* row = ws.laurel + t * D;
    add_rms_norm(ws.normed + t * D, row, w.post_laurel_norm, step.config.rms_norm_eps, D, row);
  });
  step.tap("laurel", {step.rows, D}, ws.laurel, D);
}

}  // namespace nestling
