// The audio region: the tower and the embedder that joins it to the text model.
#include "importing/plan_parts.h"
#include "model/audio_tensors.h"

namespace nestling {

Result<std::vector<PlannedTensor>> plan_audio(const Checkpoint& checkpoint, const ModelConfig& config,
                                              const ImportOptions& options) {
  std::vector<PlannedTensor> plan;
  const bool tower = has_part(checkpoint, "audio_tower."), embedder = has_part(checkpoint, "embed_audio.");
  if (!tower && !embedder) return plan;
  if (!config.audio)
    return fail(ErrorCode::kModel, "{}: holds {} tensors, but config.json has no audio_config",
                checkpoint.directory().string(), tower ? "audio_tower" : "embed_audio");
  if (tower) NESTLING_TRY_VOID(plan_tower(checkpoint, options, audio_tensors(*config.audio), Region::kAudio, plan));
  NESTLING_TRY_VOID(plan_embedder(checkpoint, options, "embed_audio.", audio_embedder(config), plan));
  return plan;
}

}  // namespace nestling
