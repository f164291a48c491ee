// Joins the towers to the text model: for every id of a multimodal vocabulary the row that replaces its embedding.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "model/taps.h"
#include "runtime/towers.h"

namespace nestling {

// Encoder output of one picture or sound: what its placeholders become.
struct MediaFeatures {
  std::vector<float> rows;          // [n, encoder width]
  std::vector<bool> valid;          // per row; empty: all. Sound only: other rows become padding
};

// Rows of soft and hard multimodal tokens, kept alive here, in the form Session takes (PromptInput).
struct MultimodalRows {
  std::vector<std::shared_ptr<const std::vector<float>>> storage;
  std::vector<const float*> embeddings;  // per id; null: an ordinary token. Empty when no id is multimodal
  std::vector<uint64_t> media_keys;      // per id; EncodedMedia::key at soft tokens, 0 elsewhere. As long as embeddings
};

// `images` and `sounds` in the order of their placeholders in `ids`. A run of placeholders longer than a sound's rows is
// filled with the padding token (the last of the audio vocabulary). Loads an embedder only for rows not asked for
// before. Errors: kModel, an id of a vocabulary whose embedder the model does not hold; kUsage, more or fewer pictures
// than placeholders, or more rows.
Result<MultimodalRows> join_media(Towers& towers, std::span<const int32_t> ids, std::span<const EncodedMedia> images,
                                  std::span<const EncodedMedia> sounds);

// Encoder output as soft tokens, with taps vision.soft_tokens, or audio.soft_tokens, audio.padding and audio.filled.
// `count`: rows to fill up to with padding (sound only); 0 leaves the rows as they are.
Result<EncodedMedia> soft_tokens(Modality& modality, const MediaFeatures& features, int64_t count, Taps* taps = nullptr);

// Both for encoder outputs: what transformers does with `images` and `sounds`.
Result<MultimodalRows> embed_multimodal(Towers& towers, std::span<const int32_t> ids,
                                        std::span<const MediaFeatures> images, std::span<const MediaFeatures> sounds,
                                        Taps* taps = nullptr);

}  // namespace nestling
