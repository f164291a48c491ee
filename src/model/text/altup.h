// AltUp (arXiv 2301.13310): S streams per token of which each layer computes one, the active stream 0, and predicts and
// corrects the others. Gemma3nTextAltUp.
#pragma once

#include "model/text/step.h"

namespace nestling {

// streams[0] holds the input embeddings x [T, D]; fills the others: S_i = y_i rms(x) / rms(y_i), y_i = altup_projections x.
void altup_embed(const Step& step, const TextWeights& weights);

// predicted[i] = S_i + sum_j c[i, j] S_j, c = prediction_coefs router(S_0).
void altup_predict(const Step& step);

// streams[i] = A_i + (k_i + 1) (activated - A_0), A predicted, k = correction_coefs router(activated).
void altup_correct(const Step& step);

// merged [T, D] (written to workspace.normed) = mean of S_0 and the unembedded other streams, each brought to the
// magnitude of S_0.
void altup_unembed(const Step& step, const TextWeights& weights);

}  // namespace nestling
