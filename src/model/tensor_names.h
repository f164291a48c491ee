// The one table of text tensors: what each is called in a checkpoint (canonical name, storage/checkpoint.h) and in the
// package (llama.cpp's names for gemma3n), and its shape. Importing, the model and export all read it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "model/config.h"

namespace nestling {

// Tensors outside the layers.
enum class GlobalTensor {
  kTokenEmbedding,           // [V, D], tied head
  kPerLayerTokenEmbedding,   // [Vp, L*P]
  kPerLayerModelProjection,  // [L*P, D]
  kPerLayerProjectionNorm,   // [P]
  kAltupProjection,          // [D, D], one for each stream but the first
  kAltupUnembedProjection,   // the same
  kNorm,                     // [D]
};

// Tensors of one layer.
enum class LayerTensor {
  kInputLayernorm,              // [D]
  kPostAttentionLayernorm,      // [D]
  kPreFeedforwardLayernorm,     // [D]
  kPostFeedforwardLayernorm,    // [D]
  kPostPerLayerInputNorm,       // [D]
  kQProj,                       // [H*K, D]
  kKProj,                       // [G*K, D], layers that own K/V
  kVProj,                       // the same
  kOProj,                       // [D, H*K]
  kQNorm,                       // [K]
  kKNorm,                       // [K], layers that own K/V
  kGateProj,                    // [F, D]
  kUpProj,                      // [F, D]
  kDownProj,                    // [D, F]
  kLaurelLeft,                  // [rank, D]
  kLaurelRight,                 // [D, rank]
  kPostLaurelNorm,              // [D]
  kAltupCorrectOutputScale,     // [D]
  kAltupCorrectionCoefs,        // [S, S]
  kAltupPredictionCoefs,        // [S*S, S]
  kAltupModalityRouter,         // [S, D]
  kAltupRouterNorm,             // [D]
  kPerLayerInputGate,           // [P, D]
  kPerLayerProjection,          // [D, P]
};

// Names in the package: "token_embd.weight", "altup_proj.2.weight", "blk.3.attn_q.weight". `index`: of an AltUp
// projection (0 .. S-2), 0 otherwise.
std::string package_name(GlobalTensor tensor, int64_t index = 0);
std::string package_name(LayerTensor tensor, int64_t layer);

// Canonical names in a checkpoint: "language_model.layers.3.self_attn.q_proj.weight".
std::string checkpoint_name(GlobalTensor tensor, int64_t index = 0);
std::string checkpoint_name(LayerTensor tensor, int64_t layer);

// One tensor a text model has.
struct TextTensor {
  std::string checkpoint;
  std::string package;
  std::optional<GlobalTensor> global;  // or else `layer_tensor` of `layer`
  LayerTensor layer_tensor = LayerTensor::kInputLayernorm;
  int64_t layer = -1;
  int64_t rows = 1, cols = 0;
  bool vector = false;  // one-dimensional in the checkpoint: shape [cols]

  std::vector<int64_t> checkpoint_shape() const {
    return vector ? std::vector{cols} : std::vector{rows, cols};
  }
};

// All text tensors that are used, in package order: the globals first, the PLE table last, layers ascending between.
// K/V tensors of sharing layers are left out: nothing reads them.
std::vector<TextTensor> text_tensors(const TextConfig& config);

}  // namespace nestling
