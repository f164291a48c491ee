#include "model/audio/conformer.h"

#include <algorithm>

#include "kernels/ops.h"
#include "model/audio/attention.h"
#include "model/audio/feed_forward.h"
#include "model/audio/light_convolution.h"

namespace nestling {
namespace {

// Frames that are not valid are silent for the convolution of their neighbours.
void clear_invalid(const AudioStep& step) {
  if (step.all_valid) return;
  const int64_t D = step.config.hidden_size;
  const uint8_t* valid = step.valid + step.config.context_left - 1;
  for (int64_t t = 0; t < step.rows; ++t)
    if (valid[t] == 0) std::fill_n(step.workspace.x + t * D, D, 0.0f);
}

}  // namespace

void conformer_block(AudioStep& step) {
  const int64_t D = step.config.hidden_size;
  feed_forward(step, step.weights->start);
  step.tap(".ffw_layer_start");
  attention(step);
  step.tap(".attention");
  clear_invalid(step);
  light_convolution(step);
  step.tap(".lconv1d");
  feed_forward(step, step.weights->end);
  step.tap(".ffw_layer_end");
  step.for_rows([&](int64_t t) {
    float* x = step.workspace.x + t * D;
    rms_norm(x, step.weights->norm, step.config.rms_norm_eps, D, x);
  });
  step.tap("");
}

}  // namespace nestling
