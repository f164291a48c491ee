#include "runtime/modality.h"

#include <cmath>

#include "base/check.h"

namespace nestling {

template <typename Section>
void Modality::configure(const std::optional<Section>& section) {
  if (!section) return;
  vocab_offset_ = section->vocab_offset, vocab_size_ = section->vocab_size;
  encoder_width_ = section->hidden_size, eps_ = section->rms_norm_eps;
}

Modality Modality::vision(const TowerContext& context) {
  Modality m(context, Region::kVision);
  m.name_ = "vision", m.noun_ = "picture", m.prefix_ = "mm.";
  m.placeholder_ = context.config->ids.image;
  m.configure(context.config->vision);
  m.feature_scale_ = std::sqrt(static_cast<float>(m.encoder_width_));  // as Gemma3nModel.get_image_features
  return m;
}

Modality Modality::audio(const TowerContext& context) {
  Modality m(context, Region::kAudio);
  m.name_ = "audio", m.noun_ = "sound", m.prefix_ = "mm.a.";
  m.placeholder_ = context.config->ids.audio;
  m.configure(context.config->audio);
  return m;
}

bool Modality::exists() const { return vocab_size_ > 0 && context_.package->has_region(region_); }

Status Modality::require(std::string_view what) const {
  if (exists()) return {};
  return fail(ErrorCode::kModel, "{}: the model {} holds no {} part", what, context_.package->file().path().string(),
              name_);
}

Status Modality::load() {
  if (embedder_) return {};
  if (!context_.package->is_loaded(region_)) {
    NESTLING_TRY_VOID(context_.package->load_region(region_));
    ++counters.loads;
  }
  NESTLING_TRY(embedder_, MultimodalEmbedder::bind(*context_.package, prefix_, vocab_size_, encoder_width_,
                                                   context_.config->text.hidden_size, eps_));
  return {};
}

void Modality::release() {
  embedder_.reset();
  context_.package->release_region(region_);
}

Result<std::vector<float>> Modality::soft(std::span<const float> rows) {
  NESTLING_TRY_VOID(load());
  NESTLING_CHECK_EQ(static_cast<int64_t>(rows.size()) % encoder_width_, 0);
  const int64_t count = static_cast<int64_t>(rows.size()) / encoder_width_;
  std::vector<float> out(static_cast<size_t>(count * embedder_->text_width()));
  if (count > 0)
    embedder_->soft(*context_.kernels, *context_.pool, rows.data(), count, feature_scale_, out.data());
  return out;
}

Result<const std::vector<float>*> Modality::hard(int64_t id) {
  NESTLING_CHECK(has(id));
  if (const auto found = hard_rows_.find(id); found != hard_rows_.end()) return &found->second;
  NESTLING_TRY_VOID(load());
  std::vector<float> row(static_cast<size_t>(embedder_->text_width()));
  embedder_->hard(*context_.kernels, *context_.pool, id - vocab_offset_, row.data());
  return &hard_rows_.emplace(id, std::move(row)).first->second;
}

}  // namespace nestling
