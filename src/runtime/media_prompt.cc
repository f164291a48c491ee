#include "runtime/media_prompt.h"

#include "base/check.h"
#include "runtime/multimodal.h"

namespace nestling {
namespace {

// The media of a prompt while they are read.
struct Reading {
  std::vector<EncodedMedia> images, sounds;
  std::vector<int64_t> counts;  // placeholders, in order
};

Status read_all(Engine& engine, std::span<const Medium> media, const MediaOptions& options, Reading& reading,
                PreparedPrompt& prepared) {
  for (const Medium& medium : media) {
    if (options.cancelled != nullptr && *options.cancelled) return fail(ErrorCode::kCancelled, "interrupted");
    NESTLING_TRY(ReadMedium read, read_medium(engine, medium, options));
    const bool picture = medium.kind == ContentKind::kImage;
    (picture ? reading.images : reading.sounds).push_back(std::move(read.media));
    (picture ? prepared.image_ms : prepared.audio_ms) += read.report.encode_ms;
    reading.counts.push_back(read.tokens);
    prepared.media_tokens += read.tokens;
    prepared.limits.insert(prepared.limits.end(), read.limits.begin(), read.limits.end());
    prepared.media.push_back(std::move(read.report));
  }
  return {};
}

}  // namespace

Result<PreparedPrompt> prepare_prompt(Engine& engine, const Prompt& prompt, std::span<const Medium> media,
                                      const MediaOptions& options) {
  for (const Medium& medium : media) {
    const Towers& towers = engine.towers();
    const Modality& modality =
        medium.kind == ContentKind::kImage ? towers.vision.modality() : towers.sound.modality();
    NESTLING_TRY_VOID(modality.require(medium.name));
  }
  NESTLING_TRY(const Tokenizer* tokenizer, engine.require_tokenizer());
  PreparedPrompt prepared;
  Reading reading;
  NESTLING_TRY_VOID(read_all(engine, media, options, reading, prepared));
  NESTLING_TRY(EncodedPrompt encoded, encode_prompt(*tokenizer, prompt, reading.counts));
  NESTLING_TRY(MultimodalRows rows, join_media(engine.towers(), encoded.ids, reading.images, reading.sounds));
  prepared.input = {.ids = std::move(encoded.ids),
                    .embeddings = std::move(rows.embeddings),
                    .media_keys = std::move(rows.media_keys),
                    .storage = std::move(rows.storage)};
  if (options.release_modalities) engine.release_modalities();
  return prepared;
}

}  // namespace nestling
