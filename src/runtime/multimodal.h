// Joins the towers to the text model: for every id of a multimodal vocabulary the row that replaces its embedding.
#pragma once

#include <deque>
#include <span>
#include <vector>

#include "model/taps.h"
#include "runtime/engine.h"

namespace nestling {

// Encoder output of one picture or sound: what its placeholders become.
struct MediaFeatures {
  std::vector<float> rows;          // [n, encoder width]
  std::vector<bool> valid;          // per row; empty: all. Sound only: other rows become padding
};

// Rows of soft and hard multimodal tokens, owned here, in the form Session takes (PromptInput::embeddings).
struct MultimodalRows {
  std::deque<std::vector<float>> storage;
  std::vector<const float*> embeddings;  // per id; null: an ordinary token. Empty when no id is multimodal
};

// `images` and `sounds` in the order of their placeholders in `ids`. A run of placeholders longer than a sound's rows is
// filled with the padding token (the last of the audio vocabulary). Loads the embedders' regions on first use. Errors:
// kModel, an id of a vocabulary whose embedder the model does not hold; kUsage, more or fewer pictures than placeholders.
Result<MultimodalRows> embed_multimodal(Engine& engine, std::span<const int32_t> ids,
                                        std::span<const MediaFeatures> images, std::span<const MediaFeatures> sounds,
                                        Taps* taps = nullptr);

}  // namespace nestling
