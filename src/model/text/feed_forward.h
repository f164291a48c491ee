// The feed-forward part, dense or sparse, at any MatFormer width. Gemma3nTextMLP.
#pragma once

#include "model/text/step.h"

namespace nestling {

// workspace.branch [T, D] = down(gelu(gate f) * (up f)), f in workspace.normed, with the first ffn_width neurons.
// Sparse layers: gates below mean + z std (over the neurons in use, per token) are zero, the others lose that cutoff;
// up and down are then read only for the neurons whose gate is not zero (exact).
void feed_forward(const Step& step);

}  // namespace nestling
