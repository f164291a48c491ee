// A Hugging Face checkpoint directory: config.json, tokenizer files and weights in one or several safetensors files.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "storage/safetensors.h"

namespace nestling {

// A tensor under its canonical name: "language_model.layers.0.self_attn.q_proj.weight", "vision_tower.timm_model...",
// "audio_tower...", "embed_vision...", "embed_audio...". The prefixes `model.language_model.`, `language_model.model.`,
// `language_model.`, `model.` and none (text-only exports) all become that; lm_head.weight (tied) is left out.
struct CheckpointTensor {
  const SafetensorsFile* file = nullptr;
  SafetensorsEntry entry;  // under the file's own name
};

class Checkpoint {
 public:
  // Reads model.safetensors.index.json with its shards, or model.safetensors alone. Shard names must be plain file
  // names; every listed tensor must be in its shard; no tensor twice. `directory` that is no checkpoint: kModel with
  // what is missing.
  static Result<Checkpoint> open(const std::filesystem::path& directory);

  const std::filesystem::path& directory() const { return directory_; }
  const std::map<std::string, CheckpointTensor, std::less<>>& tensors() const { return tensors_; }
  const CheckpointTensor* find(std::string_view canonical_name) const;
  const std::string& config_json() const { return config_json_; }
  const std::string& generation_json() const { return generation_json_; }  // "" when absent
  const std::string& preprocessor_json() const { return preprocessor_json_; }  // preprocessor_config.json, "" when absent
  // Path, size and modification time of every file that makes up the checkpoint (tokenizer.model included), for the key
  // of a cached import.
  const std::vector<std::string>& identity() const { return identity_; }

 private:
  Status open_single();
  Status open_sharded();

  std::filesystem::path directory_;
  std::vector<std::unique_ptr<SafetensorsFile>> files_;
  std::map<std::string, CheckpointTensor, std::less<>> tensors_;
  std::string config_json_, generation_json_, preprocessor_json_;
  std::vector<std::string> identity_;
};

}  // namespace nestling
