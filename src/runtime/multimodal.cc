#include "runtime/multimodal.h"

#include <algorithm>
#include <cmath>
#include <optional>

#include "model/multimodal_embedder.h"

namespace nestling {
namespace {

// One of the two vocabularies beyond text: its ids, its placeholder, its embedder and the features still to be placed.
struct Modality {
  const char* name;
  const char* prefix;  // of its tensors in the package
  Region region;
  int64_t vocab_offset = 0, vocab_size = 0, encoder_width = 0;
  float eps = 1e-6f;
  int64_t placeholder = 0;
  float feature_scale = 1;  // pictures: sqrt(encoder width), as Gemma3nModel.get_image_features
  std::span<const MediaFeatures> media;
  size_t next_media = 0;
  std::optional<MultimodalEmbedder> embedder;

  bool has(int64_t id) const { return vocab_size > 0 && id >= vocab_offset && id < vocab_offset + vocab_size; }
};

Status load_embedder(Engine& engine, Modality& m, int64_t id) {
  if (m.embedder) return {};
  if (!engine.package().has_region(m.region))
    return fail(ErrorCode::kModel, "token id {} belongs to the {} vocabulary; the model holds no {} part", id, m.name,
                m.name);
  NESTLING_TRY_VOID(engine.package().load_region(m.region));
  NESTLING_TRY(m.embedder, MultimodalEmbedder::bind(engine.package(), m.prefix, m.vocab_size, m.encoder_width,
                                                    engine.config().text.hidden_size, m.eps));
  return {};
}

// The rows that replace a run of `count` placeholders.
Result<std::vector<float>> soft_rows(Engine& engine, Modality& m, int64_t count, Taps* taps) {
  if (m.next_media == m.media.size())
    return fail(ErrorCode::kUsage, "the prompt has more {} placeholders than the {} {}s given", m.name, m.media.size(),
                m.name);
  const MediaFeatures& features = m.media[m.next_media++];
  const int64_t D = engine.config().text.hidden_size;
  const auto available = static_cast<int64_t>(features.rows.size()) / m.encoder_width;
  if (available > count || (m.region == Region::kVision && available != count))
    return fail(ErrorCode::kUsage, "{} {}: {} rows for {} placeholders", m.name, m.next_media, available, count);
  std::vector<float> rows(static_cast<size_t>(count * D));
  m.embedder->soft(engine.kernels(), engine.pool(), features.rows.data(), available, m.feature_scale, rows.data());
  if (taps != nullptr) taps->record(std::string(m.name) + ".soft_tokens", {available, D}, rows.data());
  if (m.region == Region::kVision) return rows;
  std::vector<float> padding(static_cast<size_t>(D));
  m.embedder->hard(engine.kernels(), engine.pool(), m.vocab_size - 1, padding.data());
  for (int64_t i = 0; i < count; ++i)
    if (i >= available || (!features.valid.empty() && !features.valid[static_cast<size_t>(i)]))
      std::copy_n(padding.data(), D, rows.data() + i * D);
  if (taps != nullptr) {
    taps->record("audio.padding", {D}, padding.data());
    taps->record("audio.filled", {count, D}, rows.data());
  }
  return rows;
}

}  // namespace

Result<MultimodalRows> embed_multimodal(Engine& engine, std::span<const int32_t> ids,
                                        std::span<const MediaFeatures> images, std::span<const MediaFeatures> sounds,
                                        Taps* taps) {
  const ModelConfig& c = engine.config();
  const int64_t D = c.text.hidden_size;
  Modality modalities[2] = {{.name = "vision", .prefix = "mm.", .region = Region::kVision, .placeholder = c.ids.image,
                             .media = images},
                            {.name = "audio", .prefix = "mm.a.", .region = Region::kAudio, .placeholder = c.ids.audio,
                             .media = sounds}};
  const auto configure = [](Modality& m, const auto& section) {
    if (!section) return;
    m.vocab_offset = section->vocab_offset, m.vocab_size = section->vocab_size;
    m.encoder_width = section->hidden_size, m.eps = section->rms_norm_eps;
  };
  configure(modalities[0], c.vision);
  configure(modalities[1], c.audio);
  modalities[0].feature_scale = std::sqrt(static_cast<float>(modalities[0].encoder_width));

  MultimodalRows result;
  for (size_t t = 0; t < ids.size();) {
    const auto found = std::ranges::find_if(modalities, [&](const Modality& m) { return m.has(ids[t]); });
    if (found == std::end(modalities)) {
      ++t;
      continue;
    }
    NESTLING_TRY_VOID(load_embedder(engine, *found, ids[t]));
    result.embeddings.resize(ids.size(), nullptr);
    if (ids[t] != found->placeholder) {
      result.storage.emplace_back(static_cast<size_t>(D));
      found->embedder->hard(engine.kernels(), engine.pool(), ids[t] - found->vocab_offset, result.storage.back().data());
      result.embeddings[t++] = result.storage.back().data();
      continue;
    }
    size_t end = t;
    while (end < ids.size() && ids[end] == found->placeholder) ++end;
    NESTLING_TRY(result.storage.emplace_back(), soft_rows(engine, *found, static_cast<int64_t>(end - t), taps));
    for (int64_t i = 0; t < end; ++t, ++i) result.embeddings[t] = result.storage.back().data() + i * D;
  }
  for (const Modality& m : modalities)
    if (m.next_media < m.media.size())
      return fail(ErrorCode::kUsage, "{} {}s were given; the prompt has placeholders for {}", m.media.size(), m.name,
                  m.next_media);
  return result;
}

}  // namespace nestling
