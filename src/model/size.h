// MatFormer sizes as values: which layers of one set of weights run and how wide their feed-forward part is.
// A size is chosen per request; nothing is copied or loaded for it (mechanisms.md 1).
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "model/config.h"

namespace nestling {

struct LayerSize {
  bool skipped = false;
  int64_t width = 0;  // F in use, 1 .. the file's width; 0 when skipped
  bool operator==(const LayerSize&) const = default;
};

struct ModelSize {
  std::string name;               // slug of a published row, or "custom"
  std::vector<LayerSize> layers;  // one per layer of the file
  bool experimental = false;      // no published row has these widths

  int64_t layers_run() const;
  // The widths of layers 0 .. (last K/V producer - 1) with their skips: two sizes with equal signatures write
  // bit-identical K/V, so this, not the name, keys every cache.
  std::string kv_signature(const TextConfig& config) const;
};

// A published row: slug, official name, one letter per layer (h = half, F = full, - = skipped), MMLU of the
// pre-trained checkpoint (mechanisms.md 1.3). All sixteen, smallest first.
struct PublishedSize {
  std::string_view slug;
  std::string_view official_name;
  std::string_view layers;  // 35 letters
  double mmlu;
};
std::span<const PublishedSize> published_sizes();

// Every layer at the file's full width ("e4b" for a 35-layer file of E4B's topology, "e2b" for an E2B file, else
// "full").
ModelSize full_size(const TextConfig& config);

// "e2b", any other slug, "full", or a list such as "8192,8192,skip,16384,...". Refused with the reason: an unknown name
// (with the names allowed), wrong count, a K/V producer skipped, a layer type left without producer, width 0, above the
// file's, or off `group` (the quantisation group; 1 for f32 and bf16).
Result<ModelSize> parse_size(std::string_view text, const TextConfig& config, int64_t group);

// The configuration of the slice as a model of its own (layers renumbered, layer_types, sharing and sparsity lists
// filtered), as `export` writes it.
TextConfig sliced_config(const TextConfig& config, const ModelSize& size);

// Parameter counts from the configuration alone (mechanisms.md 9).
struct ParameterCounts {
  int64_t effective = 0;     // text core: without the embedding tables and towers
  int64_t embedding = 0;     // embed_tokens (tied head)
  int64_t ple = 0;           // embed_tokens_per_layer
  int64_t decode_read = 0;   // read per decoded token: effective - unused K/V + head rows used
  int64_t prefill_read = 0;  // work of a prompt token whose logits are not wanted (text.md 14.2)
};
ParameterCounts count_parameters(const TextConfig& config, const ModelSize& size);

}  // namespace nestling
