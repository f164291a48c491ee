// Fuzzes the sound decoders and what follows them up to mel frames. Seeds: tests/data/media/audio.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>

#include "base/check.h"
#include "media/audio.h"
#include "media/mel.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace nestling;
  const std::span bytes(reinterpret_cast<const std::byte*>(data), size);
  // A small limit keeps a run fast; the code is the same.
  const Result<AudioClip> clip = decode_audio("input", bytes, {.max_seconds = 10});
  if (!clip) {
    NESTLING_CHECK(clip.error().message.starts_with("input: "));
    return 0;
  }
  NESTLING_CHECK_LE(size_t{1}, clip->samples.size());
  NESTLING_CHECK_LE(static_cast<int64_t>(clip->samples.size()), 11 * kAudioSampleRate);
  static const MelFrontEnd front_end;
  const size_t first_second = std::min(clip->samples.size(), static_cast<size_t>(kAudioSampleRate));
  const LogMel mel = front_end.extract(std::span(clip->samples).first(first_second));
  NESTLING_CHECK(std::ranges::all_of(mel.values, [](float v) { return std::isfinite(v); }));
  return 0;
}
