// What the plans of the parts of a model share (weight_plan.cc, vision_plan.cc, audio_plan.cc). Private to importing.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "importing/weight_plan.h"

namespace nestling {

PackageTensor package_tensor(std::string name, WeightType type, Layout layout, Region region, int64_t rows,
                             int64_t cols);

// Whether the checkpoint holds a tensor whose canonical name begins with `prefix`.
bool has_part(const Checkpoint& checkpoint, std::string_view prefix);

// A multimodal embedder: names begin with `package` ("mm." or "mm.a.").
struct EmbedderShape {
  std::string package;
  Region region = Region::kVision;
  int64_t vocab = 0, width = 0, text_width = 0;
};
// For a configuration that has the section.
EmbedderShape vision_embedder(const ModelConfig& config);
EmbedderShape audio_embedder(const ModelConfig& config);

// How its four tensors are stored.
std::vector<PackageTensor> stored_embedder(const ImportOptions& options, const EmbedderShape& embedder);

// Appends them to `plan`, each checked against the checkpoint. `prefix`: "embed_vision." or "embed_audio.".
Status plan_embedder(const Checkpoint& checkpoint, const ImportOptions& options, const std::string& prefix,
                     const EmbedderShape& embedder, std::vector<PlannedTensor>& plan);

// Appends the tensors of a tower to `plan`, each checked against the checkpoint.
Status plan_tower(const Checkpoint& checkpoint, const ImportOptions& options, const std::vector<TowerTensor>& tensors,
                  Region region, std::vector<PlannedTensor>& plan);

}  // namespace nestling
