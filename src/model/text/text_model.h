// The Gemma 3n text model: token ids (and rows of soft tokens) in, final hidden states and logits out. The only file
// that loops over layers.
#pragma once

#include <span>

#include "model/config.h"
#include "model/size.h"
#include "model/taps.h"
#include "model/text/kv_cache.h"
#include "model/text/weights.h"
#include "model/text/workspace.h"

namespace nestling {

// One pass over T consecutive tokens of one conversation.
struct TextPass {
  std::span<const int32_t> ids;              // T; their PLE rows were requested from `ple` under `ple_ticket`
  // Per token a row [D] that replaces its embedding (image, audio and other multimodal ids), or null. Empty: none.
  std::span<const float* const> embeddings;
  int64_t first_position = 0;
  int64_t wanted = 0;                        // the last `wanted` tokens get a final hidden state
  const ModelSize* size = nullptr;
  KvCache* kv = nullptr;
  PleStore* ple = nullptr;
  int ple_ticket = 0;
  Taps* taps = nullptr;
};

class TextModel {
 public:
  static Result<TextModel> bind(const Package& package, const TextConfig& config);

  const TextConfig& config() const { return config_; }
  const TextWeights& weights() const { return weights_; }
  // Rows of the PLE table for `id`: itself, or row 0 for multimodal ids beyond the table.
  int32_t ple_row(int32_t id) const { return id < config_.vocab_size_per_layer_input ? id : 0; }

  // Returns the final hidden states [pass.wanted, D] (in the workspace, until the next pass). Layers that own no K/V, and
  // everything of the last K/V owner but its K/V, run only for wanted tokens: nothing else depends on them (exact).
  Result<const float*> forward(const Kernels& kernels, ThreadPool& pool, Workspace& workspace,
                               const TextPass& pass) const;

  // out [rows, V] = softcap(embed_tokens hidden), hidden [rows, D]; rows <= workspace.max_rows().
  void logits(const Kernels& kernels, ThreadPool& pool, Workspace& workspace, const float* hidden, int64_t rows,
              float* out) const;

  // embed_tokens[id] * sqrt(D).
  void embed(int32_t id, float* out) const;

 private:
  TextConfig config_;
  TextWeights weights_;
  std::vector<float> sparsity_z_;  // per layer; 0 = dense
};

}  // namespace nestling
