// The vision region: the tower, whose network the shapes of its tensors tell, and the embedder that joins it to the
// text model.
#include "importing/plan_parts.h"
#include "model/vision_tensors.h"

namespace nestling {
namespace {

Result<VisionArchitecture> read_architecture(const Checkpoint& checkpoint) {
  TensorShapes shapes;
  for (const auto& [name, tensor] : checkpoint.tensors())
    if (name.starts_with(kVisionCheckpointPrefix))
      shapes[name.substr(kVisionCheckpointPrefix.size())] = tensor.entry.shape;
  return vision_architecture(checkpoint.directory().string(), shapes);
}

}  // namespace

Result<std::vector<PlannedTensor>> plan_vision(const Checkpoint& checkpoint, const ModelConfig& config,
                                               const ImportOptions& options) {
  std::vector<PlannedTensor> plan;
  const bool tower = has_part(checkpoint, kVisionCheckpointPrefix), embedder = has_part(checkpoint, "embed_vision.");
  if (!tower && !embedder) return plan;
  const std::string source = checkpoint.directory().string();
  if (!config.vision)
    return fail(ErrorCode::kModel, "{}: holds {} tensors, but config.json has no vision_config", source,
                tower ? "vision_tower" : "embed_vision");
  if (tower) {
    NESTLING_TRY(const VisionArchitecture architecture, read_architecture(checkpoint));
    if (architecture.width != config.vision->hidden_size)
      return fail(ErrorCode::kModel, "{}: the vision tower gives {} channels; vision_config.hidden_size is {}", source,
                  architecture.width, config.vision->hidden_size);
    NESTLING_TRY_VOID(plan_tower(checkpoint, options, vision_tensors(architecture), Region::kVision, plan));
  }
  NESTLING_TRY_VOID(plan_embedder(checkpoint, options, "embed_vision.", vision_embedder(config), plan));
  return plan;
}

}  // namespace nestling
