#include "media/audio.h"

#include <utility>

#include "media/media_file.h"
#include "media/mono_stream.h"
#include "media/sniff.h"
#include "media/sound_file.h"

namespace nestling {
namespace {

constexpr size_t kBlockFrames = 4096;

uint64_t read_u32(std::span<const std::byte> bytes, bool big_endian) {
  uint64_t value = 0;
  for (size_t i = 0; i < 4; ++i) value |= std::to_integer<uint64_t>(bytes[i]) << 8 * (big_endian ? 3 - i : i);
  return value;
}

std::string_view text_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// libsndfile plays a shortened WAV or AIFF file to where it ends and says nothing, so the chunk of samples is looked up
// here. Programs that write to a pipe cannot know its size and put in a number near a power of two.
Status check_chunks_complete(std::string_view name, std::span<const std::byte> encoded) {
  constexpr uint64_t kUnknownSize = 0x7FFF0000;
  constexpr size_t kFirstChunk = 12, kChunkHeader = 8;
  const bool aiff = text_of(encoded).starts_with("FORM");
  const bool big_endian = aiff || text_of(encoded).starts_with("RIFX");
  for (uint64_t at = kFirstChunk; encoded.size() >= at + kChunkHeader;) {
    const auto chunk = encoded.subspan(at);
    const uint64_t size = read_u32(chunk.subspan(4), big_endian), present = chunk.size() - kChunkHeader;
    if (text_of(chunk).starts_with(aiff ? "SSND" : "data")) {
      if (size <= present || size >= kUnknownSize) return {};
      return fail(ErrorCode::kFailed, "{}: damaged sound: {} of {} bytes of samples are there", name, present, size);
    }
    at += kChunkHeader + size + size % 2;
  }
  return fail(ErrorCode::kFailed, "{}: damaged sound: no samples after the header", name);
}

Status check_duration(std::string_view name, int64_t frames, int64_t rate, const AudioLimits& limits) {
  const double seconds = static_cast<double>(frames) / static_cast<double>(rate);
  if (seconds <= limits.max_seconds) return {};
  return fail(ErrorCode::kFailed, "{}: {:.0f} seconds or more of sound; at most {:.0f} are allowed", name, seconds,
              limits.max_seconds);
}

Result<AudioClip> decode_all(std::string_view name, SoundFile& file, MonoStream& mono, const AudioLimits& limits) {
  AudioClip clip{.samples = {}, .source_rate = file.rate(), .source_channels = file.channels()};
  const auto channels = static_cast<size_t>(file.channels());
  std::vector<float> block(kBlockFrames * channels);
  int64_t frames = 0;
  const int64_t recorded = file.recorded_frames().value_or(0);
  NESTLING_TRY_VOID(check_duration(name, recorded, file.rate(), limits));
  while (true) {
    NESTLING_TRY(const int64_t n, file.read(block));
    if (n == 0) break;
    frames += n;
    NESTLING_TRY_VOID(check_duration(name, frames, file.rate(), limits));
    NESTLING_TRY_VOID(mono.push(std::span(block).first(static_cast<size_t>(n) * channels), clip.samples));
  }
  if (frames < recorded)
    return fail(ErrorCode::kFailed, "{}: damaged sound: {} of {} samples are there", name, frames, recorded);
  NESTLING_TRY_VOID(mono.finish(clip.samples));
  clip.clipped_values = mono.clipped_values();
  if (clip.samples.empty()) return fail(ErrorCode::kFailed, "{}: holds no sound: 0 samples", name);
  return clip;
}

}  // namespace

Result<AudioClip> decode_audio(std::string_view name, std::span<const std::byte> encoded, const AudioLimits& limits) {
  if (encoded.empty())
    return fail(ErrorCode::kFailed, "{}: is empty; a WAV, FLAC, Ogg, MP3 or AIFF sound is needed", name);
  if (encoded.size() > limits.max_encoded_bytes)
    return fail(ErrorCode::kFailed, "{}: {} bytes; at most {} are allowed", name, encoded.size(),
                limits.max_encoded_bytes);
  const SniffedType sniffed = sniff_media(encoded);
  if (!is_audio(sniffed.type))
    return fail(ErrorCode::kFailed, "{}: is {}; a WAV, FLAC, Ogg, MP3 or AIFF sound is needed", name,
                sniffed.description);
  if (sniffed.type == MediaType::kWav || sniffed.type == MediaType::kAiff)
    NESTLING_TRY_VOID(check_chunks_complete(name, encoded));
  NESTLING_TRY(SoundFile file, SoundFile::open(name, encoded));
  NESTLING_TRY(MonoStream mono, MonoStream::create(name, file.rate(), file.channels()));
  return decode_all(name, file, mono, limits);
}

Result<AudioClip> load_audio(const std::filesystem::path& path, const AudioLimits& limits) {
  NESTLING_TRY(const std::vector<std::byte> encoded, read_media_file(path, limits.max_encoded_bytes));
  return decode_audio(path.string(), encoded, limits);
}

}  // namespace nestling
