// Local causal attention of the audio tower (transformers: Gemma3nAudioAttention), one query at a time: a frame sees
// itself and the context_left - 1 frames before it. transformers computes the same in blocks of a chunk with a mask.
#pragma once

#include "model/audio/step.h"

namespace nestling {

// x += rms_norm(post attention(rms_norm(x; pre_norm)); post_norm). Per head, for the keys j at distance p = 0 ..
// context_left - 1 that are valid:
//   logit = cap tanh(q (k_j + r_p) / cap), q scaled by softplus(per_dim_scale) / (sqrt(K) ln 2), r the relative
//   positions.
// The keys and values of the last frames replace those in the state.
void attention(const AudioStep& step);

}  // namespace nestling
