// Sounds: encoded bytes in, mono 16 kHz samples out.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace nestling {

// What a sound may ask for. Samples are decoded in blocks: what a header claims is never believed with memory.
struct AudioLimits {
  uint64_t max_encoded_bytes = uint64_t{512} << 20;
  double max_seconds = 5400;  // 90 minutes: 345 MB of samples, and about as long as a context of 32,768 tokens
};

struct AudioClip {
  std::vector<float> samples;     // mono, 16 kHz
  int64_t source_rate = 0;        // Hz
  int64_t source_channels = 0;
  int64_t clipped_values = 0;     // of the source, that were beyond [-1, 1]
};

// Decodes WAV, FLAC, Ogg (Vorbis, Opus, FLAC), MP3 or AIFF, told apart by content, of any rate and channel count within
// mono_stream.h's limits. Refused (kFailed): a file that is truncated, where its format can show it; one without
// samples; a sample that is not a number. `name` stands for the sound in errors.
Result<AudioClip> decode_audio(std::string_view name, std::span<const std::byte> encoded,
                               const AudioLimits& limits = {});
Result<AudioClip> load_audio(const std::filesystem::path& path, const AudioLimits& limits = {});

}  // namespace nestling
