#include "runtime/media_reader.h"

#include <algorithm>
#include <chrono>
#include <cmath>

#include "media/audio.h"
#include "media/image.h"
#include "media/media_file.h"
#include "media/resize.h"
#include "runtime/multimodal.h"

namespace nestling {
namespace {

using Clock = std::chrono::steady_clock;

constexpr size_t kPcmBlock = 1 << 14;  // bytes

double milliseconds_since(Clock::time_point start) {
  return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

double seconds_of(int64_t samples) { return static_cast<double>(samples) / static_cast<double>(kAudioSampleRate); }

bool is_cancelled(const MediaOptions& options) { return options.cancelled != nullptr && *options.cancelled; }

// Samples of a sound that are heard.
int64_t sample_limit(const MediaOptions& options) {
  if (!options.audio_limit_seconds) return INT64_MAX;
  return std::max<int64_t>(1, std::llround(*options.audio_limit_seconds * static_cast<double>(kAudioSampleRate)));
}

Result<EncodedMedia> as_soft_tokens(Modality& modality, std::vector<float> rows, const ContentKey& key,
                                    const MediaFacts& facts) {
  NESTLING_TRY(EncodedMedia media, soft_tokens(modality, {.rows = std::move(rows), .valid = {}}, 0));
  media.key = short_key(key);
  media.facts = facts;
  return media;
}

// What a cached or a new result have in common.
ReadMedium finished(const Medium& medium, const EncodedMedia& media) {
  return {.media = media,
          .tokens = media.count,
          .report = {.kind = medium.kind, .name = medium.name, .facts = media.facts},
          .limits = {}};
}

Result<EncodedMedia> see(Engine& engine, const Medium& medium, std::span<const std::byte> encoded, int64_t size,
                         const ContentKey& key) {
  NESTLING_TRY(Image picture, decode_image(medium.name, encoded));
  const MediaFacts facts{.width = picture.width, .height = picture.height, .encoded_size = size};
  if (picture.width != size || picture.height != size) picture = resize_bilinear(picture, size, size);
  NESTLING_TRY_VOID(engine.load_vision(size));
  NESTLING_TRY(std::vector<float> rows, engine.towers().vision.encode(picture));
  return as_soft_tokens(engine.towers().vision.modality(), std::move(rows), key, facts);
}

Result<ReadMedium> read_picture(Engine& engine, const Medium& medium, std::span<const std::byte> encoded,
                                const MediaOptions& options) {
  Towers& towers = engine.towers();
  NESTLING_TRY_VOID(towers.vision.modality().require(medium.name));
  const int64_t size = options.image_size > 0 ? options.image_size : engine.default_image_size();
  if (!is_image_size(size))
    return fail(ErrorCode::kUsage, "image size: {} pixels; 256, 512 and 768 are allowed", size);
  ContentHash hash;
  hash.add(std::string_view("picture"));
  hash.add(size);
  hash.add(encoded);
  const ContentKey key = hash.finish();
  if (const EncodedMedia* cached = towers.cache.find(key)) {
    ++towers.vision.modality().counters.cached;
    ReadMedium result = finished(medium, *cached);
    result.report.cached = true;
    return result;
  }
  const auto started = Clock::now();
  NESTLING_TRY(EncodedMedia media, see(engine, medium, encoded, size, key));
  ReadMedium result = finished(medium, media);
  result.report.encode_ms = milliseconds_since(started);
  if (media.facts.width != media.facts.height)
    result.limits.push_back(fmt::format("{}: {} x {} pixels were scaled to {} x {} without keeping the aspect ratio",
                                        medium.name, media.facts.width, media.facts.height, size, size));
  towers.cache.insert(key, std::move(media));
  return result;
}

// Hears a sound up to the limit, and no more of it than the context has room for.
class Hearing {
 public:
  Hearing(Engine& engine, const Medium& medium, const MediaOptions& options)
      : engine_(engine), medium_(medium), options_(options), listener_(engine.towers().sound),
        limit_(sample_limit(options)) {}

  int64_t samples() const { return samples_; }
  int64_t heard() const { return listener_.samples(); }

  // `total`: samples of the whole sound, 0 where it is not known yet.
  Status push(std::span<const float> samples, int64_t total, bool eager) {
    samples_ += static_cast<int64_t>(samples.size());
    if (const double most = AudioLimits().max_seconds; seconds_of(samples_) > most)
      return fail(ErrorCode::kFailed, "{}: {:.0f} seconds or more of sound; at most {:.0f} are allowed", medium_.name,
                  seconds_of(samples_), most);
    const int64_t room = std::clamp<int64_t>(limit_ - heard(), 0, static_cast<int64_t>(samples.size()));
    samples = samples.first(static_cast<size_t>(room));
    NESTLING_TRY_VOID(check_room(heard() + room));
    // In passes, so that a long clip can be interrupted and shows how far it is.
    const auto piece = static_cast<size_t>(engine_.towers().sound.frames_per_pass() * kMelHopLength);
    while (!samples.empty()) {
      if (is_cancelled(options_)) return fail(ErrorCode::kCancelled, "interrupted");
      const auto part = samples.first(std::min(piece, samples.size()));
      NESTLING_TRY_VOID(listener_.push(part, eager));
      samples = samples.subspan(part.size());
      if (options_.on_heard) options_.on_heard(seconds_of(heard()), seconds_of(std::min(total, limit_)));
    }
    return {};
  }

  Result<std::vector<float>> finish() { return listener_.finish(); }

  // Before the work is done rather than after.
  Status check_room(int64_t samples) const {
    const int64_t tokens = engine_.towers().sound.rows_of(std::min(samples, limit_)), context = engine_.options().context;
    if (tokens < context || options_.audio_tokens == AudioTokens::kPadded) return {};
    return fail(ErrorCode::kUsage, "{}: {:.0f} s of sound become {} tokens; the context holds {} (up to {} with --ctx; "
                "--audio-limit cuts)", medium_.name, seconds_of(std::min(samples, limit_)), tokens, context,
                engine_.config().text.max_position_embeddings);
  }

 private:
  Engine& engine_;
  const Medium& medium_;
  const MediaOptions& options_;
  Sound::Listener listener_;
  int64_t limit_, samples_ = 0;
};

Result<EncodedMedia> hear(Engine& engine, const Medium& medium, std::span<const std::byte> encoded,
                          const MediaOptions& options, const ContentKey& key) {
  NESTLING_TRY(const AudioClip clip, decode_audio(medium.name, encoded));
  NESTLING_TRY_VOID(engine.load_sound());
  Hearing hearing(engine, medium, options);
  const auto total = static_cast<int64_t>(clip.samples.size());
  NESTLING_TRY_VOID(hearing.check_room(total));
  NESTLING_TRY_VOID(hearing.push(clip.samples, total, false));
  NESTLING_TRY(std::vector<float> rows, hearing.finish());
  const MediaFacts facts{.seconds = seconds_of(total), .heard_seconds = seconds_of(hearing.heard()),
                         .source_rate = clip.source_rate, .channels = clip.source_channels,
                         .clipped_values = clip.clipped_values};
  return as_soft_tokens(engine.towers().sound.modality(), std::move(rows), key, facts);
}

// Raw samples, encoded while they come. All of them are taken from the source, so that the writer of a pipe is not
// stopped by a limit.
Result<EncodedMedia> hear_pcm(Engine& engine, const Medium& medium, const MediaOptions& options, ContentKey& key) {
  NESTLING_TRY(PcmStream stream, PcmStream::create(medium.name, medium.pcm_format));
  NESTLING_TRY_VOID(engine.load_sound());
  Hearing hearing(engine, medium, options);
  ContentHash hash;
  hash.add(std::string_view("samples"));
  hash.add(medium.pcm_format.rate);
  hash.add(medium.pcm_format.channels);
  hash.add(static_cast<int64_t>(medium.pcm_format.sample));
  hash.add(sample_limit(options));
  std::vector<std::byte> block(kPcmBlock);
  std::vector<float> samples;
  const auto pass_on = [&](bool more) -> Status {
    NESTLING_TRY_VOID(hearing.push(samples, 0, more && engine.towers().sound.weights() == AudioWeights::kResident));
    samples.clear();
    return {};
  };
  while (true) {
    NESTLING_TRY(const size_t count, medium.pcm(block));
    if (count == 0) break;
    hash.add(std::span<const std::byte>(block).first(count));
    NESTLING_TRY_VOID(stream.push(std::span<const std::byte>(block).first(count), samples));
    NESTLING_TRY_VOID(pass_on(true));
  }
  NESTLING_TRY_VOID(stream.finish(samples));
  NESTLING_TRY_VOID(pass_on(false));
  if (hearing.samples() == 0) return fail(ErrorCode::kFailed, "{}: holds no sound: 0 samples", medium.name);
  NESTLING_TRY(std::vector<float> rows, hearing.finish());
  key = hash.finish();
  const MediaFacts facts{.seconds = seconds_of(hearing.samples()), .heard_seconds = seconds_of(hearing.heard()),
                         .source_rate = medium.pcm_format.rate, .channels = medium.pcm_format.channels,
                         .clipped_values = stream.clipped_values()};
  return as_soft_tokens(engine.towers().sound.modality(), std::move(rows), key, facts);
}

// Placeholders for a sound, and in words what of it is not heard.
void finish_sound(const Engine& engine, const MediaOptions& options, ReadMedium& result) {
  const MediaFacts& facts = result.media.facts;
  const std::string& name = result.report.name;
  if (facts.heard_seconds < facts.seconds) {
    result.report.cut = true;
    result.limits.push_back(fmt::format("{}: the first {:.2f} of {:.2f} s were heard (--audio-limit)", name,
                                        facts.heard_seconds, facts.seconds));
  }
  if (facts.clipped_values > 0)
    result.limits.push_back(fmt::format("{}: {} values beyond -1 to 1 were clipped", name, facts.clipped_values));
  if (options.audio_tokens == AudioTokens::kExact) return;
  const int64_t places = engine.config().audio_soft_tokens_per_image;
  if (result.media.count > places) {
    result.report.cut = true;
    result.limits.push_back(fmt::format("{}: {} of its {} soft tokens are used (--audio-tokens pad188)", name, places,
                                        result.media.count));
    result.media.count = places;
  }
  result.tokens = places;
}

Result<ReadMedium> read_sound(Engine& engine, const Medium& medium, std::span<const std::byte> encoded,
                              const MediaOptions& options) {
  Towers& towers = engine.towers();
  NESTLING_TRY_VOID(towers.sound.modality().require(medium.name));
  ContentHash hash;
  hash.add(std::string_view("sound"));
  hash.add(sample_limit(options));
  hash.add(encoded);
  ContentKey key = hash.finish();
  const EncodedMedia* cached = medium.pcm ? nullptr : towers.cache.find(key);
  ReadMedium result;
  if (cached != nullptr) {
    ++towers.sound.modality().counters.cached;
    result = finished(medium, *cached);
    result.report.cached = true;
  } else {
    const auto started = Clock::now();
    NESTLING_TRY(EncodedMedia media, medium.pcm ? hear_pcm(engine, medium, options, key)
                                                : hear(engine, medium, encoded, options, key));
    result = finished(medium, media);
    result.report.encode_ms = milliseconds_since(started);
    towers.cache.insert(key, std::move(media));
  }
  finish_sound(engine, options, result);
  return result;
}

}  // namespace

bool is_image_size(int64_t size) {
  return std::ranges::find(MediaOptions::kImageSizes, size) != std::end(MediaOptions::kImageSizes);
}

Result<ReadMedium> read_medium(Engine& engine, const Medium& medium, const MediaOptions& options) {
  const bool picture = medium.kind == ContentKind::kImage;
  Modality& modality = picture ? engine.towers().vision.modality() : engine.towers().sound.modality();
  NESTLING_TRY_VOID(modality.require(medium.name));
  std::vector<std::byte> from_file;
  if (medium.encoded.empty() && !medium.pcm) {
    const uint64_t most = picture ? ImageLimits().max_encoded_bytes : AudioLimits().max_encoded_bytes;
    NESTLING_TRY(from_file, read_media_file(medium.path, most));
  }
  const std::span<const std::byte> encoded = medium.encoded.empty() ? from_file : medium.encoded;
  NESTLING_TRY(ReadMedium result, picture ? read_picture(engine, medium, encoded, options)
                                          : read_sound(engine, medium, encoded, options));
  result.report.tokens = result.tokens;
  return result;
}

}  // namespace nestling
