#include "runtime/vision.h"

#include "base/check.h"

namespace nestling {

Status Vision::load() {
  if (encoder_) return {};
  NESTLING_TRY_VOID(modality_.load());
  NESTLING_TRY(encoder_, VisionEncoder::bind(*context_.package));
  if (encoder_->width() != modality_.encoder_width())
    return fail(ErrorCode::kModel, "{}: the vision tower gives {} channels; vision_config.hidden_size is {}",
                context_.package->file().path().string(), encoder_->width(), modality_.encoder_width());
  return {};
}

void Vision::release() {
  encoder_.reset();
  modality_.release();
}

uint64_t Vision::workspace_bytes(int64_t size) const {
  NESTLING_CHECK(encoder_.has_value());
  return encoder_->workspace_bytes(size, context_.pool->size());
}

Result<std::vector<float>> Vision::encode(const Image& picture, Taps* taps) {
  NESTLING_CHECK_EQ(picture.width, picture.height);
  return encode(pixel_values(picture), picture.width, taps);
}

Result<std::vector<float>> Vision::encode(std::span<const float> pixels, int64_t size, Taps* taps) {
  NESTLING_TRY_VOID(load());
  NESTLING_CHECK_EQ(static_cast<int64_t>(pixels.size()), size * size * 3);
  std::vector<float> rows(static_cast<size_t>(kVisionTokens * encoder_->width()));
  NESTLING_TRY_VOID(encoder_->encode(*context_.kernels, *context_.pool, pixels.data(), size, rows.data(), taps));
  context_.pool->park();
  ++modality_.counters.encoded;
  return rows;
}

}  // namespace nestling
