// The light convolution of a conformer block (transformers: Gemma3nAudioConformerLightConv1d): a gated linear unit, a
// depthwise convolution over the last few frames, and a projection.
#pragma once

#include "model/audio/step.h"

namespace nestling {

// x += linear_end silu(rms_norm(depthwise(glu(linear_start rms_norm(x; norm))); depthwise_norm)), for the kept rows of
// step.first_kept and step.keep_every: these move to the front of workspace.x and step.rows becomes their number. What
// the GLU gives for the last frames replaces the state.
void light_convolution(AudioStep& step);

}  // namespace nestling
