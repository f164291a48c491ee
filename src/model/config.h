// The configuration of a Gemma 3n model: what config.json of a checkpoint says, checked, and kept in a package.
// Field names are transformers' (spec: text.md 1, vision and audio sections of the checkpoint).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"

namespace nestling {

struct TextConfig {
  int64_t vocab_size = 0;                  // V: rows of embed_tokens
  int64_t vocab_size_per_layer_input = 0;  // rows of the PLE table; ids at or beyond it read row 0
  int64_t hidden_size = 0;                 // D
  int64_t num_hidden_layers = 0;           // L
  std::vector<int64_t> intermediate_size;  // F of each layer
  int64_t num_attention_heads = 0;         // H
  int64_t num_key_value_heads = 0;         // G
  int64_t head_dim = 0;                    // K
  int64_t hidden_size_per_layer_input = 0; // P
  int64_t laurel_rank = 0;
  int64_t altup_num_inputs = 0;            // S; the active stream is 0
  bool altup_correct_scale = true;
  int64_t sliding_window = 0;
  std::vector<bool> full_attention;        // per layer; false = sliding window
  std::vector<float> activation_sparsity;  // per layer; 0 = dense, 0.95 = keep gates above mean + z(0.95) std
  int64_t num_kv_shared_layers = 0;
  double rope_theta = 1'000'000;           // full attention layers
  double rope_local_base_freq = 10'000;    // sliding layers
  float final_logit_softcapping = 30;      // 0 = none
  float rms_norm_eps = 1e-6f;
  int64_t max_position_embeddings = 0;

  // First layer that owns no K/V: num_hidden_layers when nothing is shared.
  int64_t first_kv_shared_layer() const { return num_hidden_layers - num_kv_shared_layers; }
  // The layer whose K/V layer l reads: l itself below first_kv_shared_layer(), else the last one below it of l's type.
  int64_t kv_producer(int64_t layer) const;
};

struct VisionConfig {
  int64_t hidden_size = 0;  // width of the encoder output
  int64_t vocab_size = 0, vocab_offset = 0;
  float rms_norm_eps = 1e-6f;
  int64_t image_size = 768;  // pixels a side that pictures are scaled to: 256, 512 or 768 (preprocessor_config.json)
};

struct AudioConfig {
  int64_t hidden_size = 0;
  int64_t vocab_size = 0, vocab_offset = 0;
  float rms_norm_eps = 1e-6f;
  int64_t input_feat_size = 128;
  int64_t chunk_size = 12, context_left = 13;  // context_left: keys of a frame, itself included
  float logit_cap = 50;
  int64_t num_attention_heads = 8, num_hidden_layers = 12, conv_kernel_size = 5, reduction_factor = 4;
  float residual_weight = 0.5f;
  std::vector<int64_t> sscp_channels = {128, 32};
  float sscp_group_norm_eps = 1e-3f;
  float gradient_clipping = 1e10f;
};

struct SpecialIds {
  int64_t pad = 0, eos = 1, bos = 2;
  int64_t image = 262145, boi = 255999, eoi = 262144;
  int64_t audio = 262273, boa = 256000, eoa = 262272;
};

// Defaults of generation_config.json.
struct GenerationDefaults {
  std::vector<int64_t> stop_ids = {1, 106};
  bool do_sample = true;
  float temperature = 1.0f, top_p = 0.95f;
  int64_t top_k = 64;
};

struct ModelConfig {
  TextConfig text;
  std::optional<VisionConfig> vision;  // the section of config.json, whether or not the tower's tensors are there
  std::optional<AudioConfig> audio;
  SpecialIds ids;
  int64_t vision_soft_tokens_per_image = 256;
  int64_t audio_soft_tokens_per_image = 188;
  GenerationDefaults generation;
};

// Parses config.json (Gemma3nForConditionalGeneration or Gemma3nForCausalLM, old and new rope fields, scalar or list
// widths, missing lists by rule) and generation_config.json ("" when there is none). Every number is bounded
// (files.md 1.6) and finite; `path` names the file in errors.
Result<ModelConfig> parse_config(const std::string& config_json, const std::string& generation_json,
                                 const std::string& path);

// Takes over what preprocessor_config.json says about pictures: their size. "" when there is none. A size that the encoder
// does not take is told in the log and left out: it is no reason to refuse the text model.
void apply_preprocessor(ModelConfig& config, const std::string& preprocessor_json, const std::string& path);

// The configuration as JSON text for the package, and back (same checks).
std::string config_to_json(const ModelConfig& config);
Result<ModelConfig> config_from_json(const std::string& json, const std::string& path);

// A config.json with everything kept but what depends on the layers of the text model, which becomes that of `slice`.
// For a document that parse_config has accepted.
std::string replace_text_layers(const std::string& config_json, const TextConfig& slice);

}  // namespace nestling
