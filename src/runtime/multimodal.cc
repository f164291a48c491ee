#include "runtime/multimodal.h"

#include <algorithm>

namespace nestling {
namespace {

int64_t text_width(const Towers& towers) { return towers.context.config->text.hidden_size; }

// Placeholders from `begin` on.
size_t run_length(std::span<const int32_t> ids, size_t begin, int64_t placeholder) {
  size_t end = begin;
  while (end < ids.size() && ids[end] == placeholder) ++end;
  return end - begin;
}

// Lengths of all runs of placeholders.
std::vector<int64_t> runs_of(std::span<const int32_t> ids, int64_t placeholder) {
  std::vector<int64_t> runs;
  for (size_t t = 0; t < ids.size();) {
    const size_t length = run_length(ids, t, placeholder);
    if (length > 0) runs.push_back(static_cast<int64_t>(length));
    t += std::max<size_t>(length, 1);
  }
  return runs;
}

// One modality's media while a prompt is joined.
struct Source {
  Modality& modality;
  std::span<const EncodedMedia> media;
  size_t next = 0;
};

class Joiner {
 public:
  Joiner(Towers& towers, std::span<const int32_t> ids) : towers_(towers), ids_(ids) {}

  Status place_hard(Modality& modality, size_t at) {
    NESTLING_TRY(const std::vector<float>* row, modality.hard(ids_[at]));
    place(at, copy(*row)->data());
    return {};
  }

  Status place_soft(Source& source, size_t begin, size_t count) {
    Modality& modality = source.modality;
    if (source.next == source.media.size())
      return fail(ErrorCode::kUsage, "the prompt has more {} placeholders than the {} {}s given", modality.name(),
                  source.media.size(), modality.noun());
    const EncodedMedia& medium = source.media[source.next++];
    const bool picture = modality.region() == Region::kVision;
    const auto rows = static_cast<size_t>(medium.count);
    if (rows > count || (picture && rows != count))
      return fail(ErrorCode::kUsage, "{} {}: {} rows for {} placeholders", modality.noun(), source.next, rows, count);
    result_.storage.push_back(medium.rows);
    for (size_t i = 0; i < rows; ++i)
      place(begin + i, medium.rows->data() + i * static_cast<size_t>(text_width(towers_)));
    if (rows < count) {
      NESTLING_TRY(const std::vector<float>* padding, modality.hard(modality.padding_id()));
      const float* row = copy(*padding)->data();
      for (size_t i = rows; i < count; ++i) place(begin + i, row);
    }
    std::fill_n(result_.media_keys.begin() + static_cast<std::ptrdiff_t>(begin), count, medium.key);
    return {};
  }

  MultimodalRows take() { return std::move(result_); }

 private:
  void place(size_t at, const float* row) {
    result_.embeddings.resize(ids_.size(), nullptr);
    result_.media_keys.resize(ids_.size(), 0);
    result_.embeddings[at] = row;
  }
  const std::vector<float>* copy(const std::vector<float>& row) {
    result_.storage.push_back(std::make_shared<std::vector<float>>(row));
    return result_.storage.back().get();
  }

  Towers& towers_;
  std::span<const int32_t> ids_;
  MultimodalRows result_;
};

}  // namespace

Result<MultimodalRows> join_media(Towers& towers, std::span<const int32_t> ids, std::span<const EncodedMedia> images,
                                  std::span<const EncodedMedia> sounds) {
  Source sources[] = {{towers.vision.modality(), images}, {towers.sound.modality(), sounds}};
  Joiner joiner(towers, ids);
  for (size_t t = 0; t < ids.size();) {
    const auto found = std::ranges::find_if(sources, [&](const Source& s) { return s.modality.has(ids[t]); });
    if (found == std::end(sources)) {
      ++t;
      continue;
    }
    NESTLING_TRY_VOID(found->modality.require(fmt::format("token id {}", ids[t])));
    const size_t run = run_length(ids, t, found->modality.placeholder());
    NESTLING_TRY_VOID(run > 0 ? joiner.place_soft(*found, t, run) : joiner.place_hard(found->modality, t));
    t += std::max<size_t>(run, 1);
  }
  for (const Source& s : sources)
    if (s.next < s.media.size())
      return fail(ErrorCode::kUsage, "{} {}s were given; the prompt has placeholders for {}", s.media.size(),
                  s.modality.noun(), s.next);
  return joiner.take();
}

Result<EncodedMedia> soft_tokens(Modality& modality, const MediaFeatures& features, int64_t count, Taps* taps) {
  NESTLING_TRY(std::vector<float> rows, modality.soft(features.rows));
  const int64_t available = static_cast<int64_t>(features.rows.size()) / modality.encoder_width();
  const int64_t D = available > 0 ? static_cast<int64_t>(rows.size()) / available : 0;
  if (taps != nullptr && available > 0)
    taps->record(std::string(modality.name()) + ".soft_tokens", {available, D}, rows.data());
  if (modality.region() == Region::kAudio) {
    NESTLING_TRY(const std::vector<float>* padding, modality.hard(modality.padding_id()));
    const auto width = static_cast<int64_t>(padding->size());
    for (int64_t i = 0; i < available; ++i)
      if (!features.valid.empty() && !features.valid[static_cast<size_t>(i)])
        std::ranges::copy(*padding, rows.begin() + i * width);
    for (int64_t i = available; i < count; ++i) rows.insert(rows.end(), padding->begin(), padding->end());
    if (taps != nullptr) {
      taps->record("audio.padding", {width}, padding->data(), 1);
      taps->record("audio.filled", {static_cast<int64_t>(rows.size()) / width, width}, rows.data());
    }
  }
  return EncodedMedia{.rows = std::make_shared<const std::vector<float>>(std::move(rows)),
                      .count = std::max(available, modality.region() == Region::kAudio ? count : 0)};
}

Result<MultimodalRows> embed_multimodal(Towers& towers, std::span<const int32_t> ids,
                                        std::span<const MediaFeatures> images, std::span<const MediaFeatures> sounds,
                                        Taps* taps) {
  std::vector<EncodedMedia> encoded[2];
  const std::span<const MediaFeatures> given[] = {images, sounds};
  Modality* const modalities[] = {&towers.vision.modality(), &towers.sound.modality()};
  for (size_t m = 0; m < 2; ++m) {
    if (given[m].empty()) continue;
    NESTLING_TRY_VOID(modalities[m]->require(modalities[m]->noun()));
    const std::vector<int64_t> runs = runs_of(ids, modalities[m]->placeholder());
    for (size_t i = 0; i < given[m].size(); ++i) {
      NESTLING_TRY(EncodedMedia medium,
                   soft_tokens(*modalities[m], given[m][i], i < runs.size() ? runs[i] : 0, taps));
      encoded[m].push_back(std::move(medium));
    }
  }
  return join_media(towers, ids, encoded[0], encoded[1]);
}

}  // namespace nestling
