// A MatFormer slice of a checkpoint as a checkpoint of its own, in the source's number types.
#pragma once

#include <atomic>
#include <filesystem>

#include "base/error.h"
#include "model/config.h"
#include "model/size.h"
#include "storage/checkpoint.h"

namespace nestling {

// Writes config.json (its lists filtered), model.safetensors, generation_config.json, tokenizer and processor files
// into `directory`, which must be empty or not there. Layers are renumbered; gate_proj and up_proj keep their first
// rows, down_proj its first columns, per_layer_model_projection and embed_tokens_per_layer the parts of the kept
// layers; everything else is copied. config.json is written last: an interrupted export is no checkpoint. kCancelled
// when *cancel becomes true.
Status export_slice(const Checkpoint& checkpoint, const ModelConfig& config, const ModelSize& size,
                    const std::filesystem::path& directory, const std::atomic<bool>* cancel = nullptr);

}  // namespace nestling
