// Relative positions of the audio tower (transformers: Gemma3nAudioRelativePositionEmbedding). A frame sees itself and
// the frames before it at distances 0 .. count - 1, so their vectors are computed once and W_pos is not kept.
#pragma once

#include <vector>

#include "tensor/weight.h"

namespace nestling {

// [count][D], row p = position_projection [D, D] times the embedding of distance p: sin(p t_i), i < D / 2, then
// cos(p t_i), with t_i = 10000^(-i / (D / 2 - 1)).
std::vector<float> relative_positions(const WeightMatrix& position_projection, int64_t count);

}  // namespace nestling
