#include <cmath>

#include "importing/plan_parts.h"
#include "importing/synthetic_tensors.h"
#include "model/audio_tensors.h"
#include "model/vision_tensors.h"

namespace nestling {
namespace {

Distribution normal(int64_t inputs) { return {.std = 1 / std::sqrt(static_cast<float>(inputs))}; }

Distribution distribution_of(const TowerTensor& tensor) {
  if (tensor.role == TowerRole::kVector) return {.ones = true};
  // A depthwise kernel is stored [taps][channels]: an output has as many inputs as there are taps.
  return normal(tensor.reorder == Reorder::kDepthwise ? tensor.rows : tensor.cols);
}

void append_embedder(const EmbedderShape& embedder, const ImportOptions& options,
                     std::vector<SyntheticTensor>& tensors) {
  for (PackageTensor& target : stored_embedder(options, embedder)) {
    const Distribution distribution = target.rows == 1 ? Distribution{.ones = true} : normal(embedder.width);
    tensors.push_back({std::move(target), distribution});
  }
}

}  // namespace

void append_synthetic_tower(const std::vector<TowerTensor>& tower, Region region, const ImportOptions& options,
                            std::vector<SyntheticTensor>& tensors) {
  for (const TowerTensor& tensor : tower)
    tensors.push_back({stored_tower_tensor(tensor, region, options), distribution_of(tensor)});
}

void append_synthetic_audio(const ModelConfig& config, const ImportOptions& options,
                            std::vector<SyntheticTensor>& tensors) {
  append_synthetic_tower(audio_tensors(*config.audio), Region::kAudio, options, tensors);
  append_embedder(audio_embedder(config), options, tensors);
}

void append_synthetic_vision(const ModelConfig& config, const ImportOptions& options,
                             std::vector<SyntheticTensor>& tensors) {
  append_synthetic_tower(vision_tensors(published_vision_architecture()), Region::kVision, options, tensors);
  append_embedder(vision_embedder(config), options, tensors);
}

}  // namespace nestling
