// Attention of one layer: projections, norms, rotation, K/V storage, softmax attention. Gemma3nTextAttention.
// Layers that share K/V (kv_shared) compute only q and read the K/V of their producer, already normed and rotated.
#pragma once

#include "model/text/step.h"

namespace nestling {

// cos and sin of every position of the chunk for both layer types, into workspace.rope. Once per chunk.
void compute_rope(const Step& step);

// q, k, v (k and v only where the layer owns them) and the left half of LAuReL in one pass over n (workspace.normed);
// then the norms and rotations, and K/V into the layer's cache.
void project_attention(const Step& step);
// Only what the layers above need of a layer whose own output nobody wants: K and V of all rows.
void project_keys_values(const Step& step);

// workspace.branch [T, D] = o_proj(softmax attention).
void attention_output(const Step& step);

}  // namespace nestling
