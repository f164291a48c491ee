// Pictures to rows of soft tokens: the vision tower, loaded when the first picture comes.
#pragma once

#include <memory>
#include <optional>

#include "media/image.h"
#include "model/vision/vision_encoder.h"
#include "runtime/modality.h"

namespace nestling {

class Vision {
 public:
  explicit Vision(const TowerContext& context) : context_(context), modality_(Modality::vision(context)) {}

  Modality& modality() { return modality_; }
  const Modality& modality() const { return modality_; }

  // Maps the region and binds the encoder. kModel: the model has no (or only part of a) vision tower.
  Status load();
  void release();

  // Of encode(), beyond the weights. Loaded.
  uint64_t workspace_bytes(int64_t size) const;
  int64_t multiply_adds(int64_t size) const { return encoder_->multiply_adds(size); }

  // A picture of size x size pixels, 256, 512 or 768 -> encoder output [kVisionTokens, encoder width]. Loads.
  Result<std::vector<float>> encode(const Image& picture, Taps* taps = nullptr);
  // The same for pixel values [size][size][3] in [0, 1].
  Result<std::vector<float>> encode(std::span<const float> pixels, int64_t size, Taps* taps = nullptr);

 private:
  TowerContext context_;
  Modality modality_;
  std::optional<VisionEncoder> encoder_;
};

}  // namespace nestling
