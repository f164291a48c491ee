// Pictures and sounds of a request, read: encoded bytes or a stream of samples in, soft tokens and what was seen or heard
// out. The towers are loaded when the first one comes; what was encoded before comes from the cache.
#pragma once

#include <atomic>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "media/mono_stream.h"
#include "runtime/engine.h"
#include "text/chat_template.h"

namespace nestling {

// How many placeholders a sound gets. Google's own runtime gives as many as it has soft tokens, which keeps prompts short;
// transformers always gives the model's number (188) and fills up with a padding token that the model attends to.
enum class AudioTokens { kExact, kPadded };

struct MediaOptions {
  int64_t image_size = 0;                     // pixels: 256, 512 or 768; 0: the model's own
  AudioTokens audio_tokens = AudioTokens::kExact;
  std::optional<double> audio_limit_seconds;  // of one sound; the rest is cut, and said to be
  bool release_modalities = false;            // unload vision and audio when a prompt's media are encoded
  const std::atomic<bool>* cancelled = nullptr;
  // For a display: seconds of sound heard so far; total 0 where it is not known.
  std::function<void(double heard, double total)> on_heard;

  static constexpr int64_t kImageSizes[] = {256, 512, 768};
};

// A source of raw samples: fills at most `bytes` and returns how many, 0 at the end.
using PcmSource = std::function<Result<size_t>(std::span<std::byte> bytes)>;

// A picture or sound of a request: a file, encoded bytes, or raw samples that are still coming.
struct Medium {
  ContentKind kind = ContentKind::kImage;
  std::string name;                // stands for it in errors
  std::filesystem::path path;      // read when `encoded` and `pcm` are empty
  std::vector<std::byte> encoded;
  PcmSource pcm;
  PcmFormat pcm_format;
};

struct MediaReport {
  ContentKind kind = ContentKind::kImage;
  std::string name;
  MediaFacts facts;
  int64_t tokens = 0;    // placeholders in the prompt
  double encode_ms = 0;  // decoding, scaling and front end included; 0 from the cache
  bool cached = false;
  bool cut = false;      // something of it was left out
};

struct ReadMedium {
  EncodedMedia media;
  int64_t tokens = 0;
  MediaReport report;
  std::vector<std::string> limits;  // what was cut or scaled, in words
};

// kFailed: what cannot be read or decoded; kUsage: a sound of more tokens than the context holds; kModel: the model has no
// such tower; kBudget; kCancelled.
Result<ReadMedium> read_medium(Engine& engine, const Medium& medium, const MediaOptions& options);

// 256, 512 or 768.
bool is_image_size(int64_t size);

}  // namespace nestling
