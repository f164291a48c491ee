// The feed-forward half steps at the start and end of a conformer block (transformers:
// Gemma3nAudioConformerFeedForward).
#pragma once

#include "model/audio/step.h"

namespace nestling {

// x += residual_weight * rms_norm(down silu(up rms_norm(x; pre_norm)); post_norm)
void feed_forward(const AudioStep& step, const AudioFeedForwardWeights& weights);

}  // namespace nestling
